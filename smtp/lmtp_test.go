package smtp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// lmtpClient greets over a connection that says what the test wrote down.
func lmtpClient(t *testing.T, conn net.Conn) *Client {
	t.Helper()
	c, err := NewClient(t.Context(), conn, ClientOptions{LMTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Hello(t.Context(), "c.example"); err != nil {
		t.Fatal(err)
	}
	return c
}

// offer is a reply to EHLO or LHLO with these keywords.
func offer(keywords string) string {
	lines := append([]string{"mx.example"}, strings.Fields(keywords)...)
	s := ""
	for i, line := range lines {
		if i < len(lines)-1 {
			s += "250-" + line + "\r\n"
		} else {
			s += "250 " + line + "\r\n"
		}
	}
	return s
}

// TestSendOverLMTP: each recipient gets the reply that decided about it, and
// nobody is taken for delivered who was not told so after the message.
func TestSendOverLMTP(t *testing.T) {
	const mailRcpt = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<no@d.example>\r\nRCPT TO:<e@d.example>\r\n"
	const accepted = "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n"
	for _, c := range []struct {
		name, offers string
		says         []string
		sent         string
		results      string
		final        string
		fails        error
	}{
		{
			"all who were accepted get it", "PIPELINING",
			[]string{accepted + "354 go\r\n", "250 2.1.5 c\r\n250 2.1.5 e\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 550 250", "250 2.1.5 c", nil,
		},
		{
			"one at a time", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "550 no\r\n", "250 ok\r\n", "354 go\r\n", "250 c\r\n", "250 e\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 550 250", "250 c", nil,
		},
		{
			"a chunk", "PIPELINING CHUNKING",
			[]string{accepted, "250 c\r\n250-e\r\n250 is long\r\n"},
			mailRcpt + "BDAT 3 LAST\r\nx\r\n", "250 550 250", "250 c", nil,
		},
		{
			"the first is over quota", "PIPELINING",
			[]string{accepted + "354 go\r\n", "452 4.2.2 full\r\n250 e\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "452 550 250", "250 e", nil,
		},
		{
			"nobody gets it", "PIPELINING",
			[]string{accepted + "354 go\r\n", "452 full\r\n", "554 virus\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "452 550 554", "554 virus", nil,
		},
		{
			"DATA is refused", "PIPELINING",
			[]string{accepted + "451 later\r\n"},
			mailRcpt + "DATA\r\n", "451 550 451", "451 later", nil,
		},
		{
			"all are refused", "PIPELINING",
			[]string{"250 ok\r\n550 no\r\n551 no\r\n552 no\r\n503 no recipients\r\n"},
			mailRcpt + "DATA\r\n", "550 551 552", "552 no", nil,
		},
		{
			"all are refused, and DATA is not: no message for nobody", "PIPELINING",
			[]string{"250 ok\r\n550 no\r\n551 no\r\n552 no\r\n354 go\r\n"},
			mailRcpt + "DATA\r\n", "550 551 552", "552 no", nil,
		},
		{
			"MAIL is refused", "",
			[]string{"451 no\r\n"},
			"MAIL FROM:<a@b.example>\r\n", "451 451 451", "451 no", nil,
		},
		{
			"421 to a recipient: the one before it was not delivered to", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "421 bye\r\n"},
			"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<no@d.example>\r\n", "421 421 0", "421 bye", nil,
		},
		{
			"421 after the message, for all that follow", "PIPELINING",
			[]string{accepted + "354 go\r\n", "421 bye\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "421 550 421", "421 bye", nil,
		},
		{
			"421 after the first has it", "PIPELINING",
			[]string{"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "250 c\r\n421 bye\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 421 421", "250 c", nil,
		},
		{
			"closed between the replies: who was answered has it", "PIPELINING",
			[]string{accepted + "354 go\r\n", "250 c\r\n25"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 550 0", "250 c", ErrClosed,
		},
		{
			"closed before the replies: nobody is known to have it", "PIPELINING",
			[]string{accepted + "354 go\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "0 550 0", "", ErrClosed,
		},
		{
			"a reply that is none", "PIPELINING",
			[]string{accepted + "354 go\r\n", "250 c\r\nfoo\r\n250 e\r\n"},
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 550 0", "250 c", ErrNotSMTP,
		},
	} {
		w := &wire{pieces: append([]string{greeting, offer(c.offers)}, c.says...)}
		client := lmtpClient(t, w)
		results, final, err := client.Send(t.Context(), envelope(t, "c@d.example", "no@d.example", "e@d.example"), io.MultiReader(strings.NewReader("x\r\n")))
		var list []string
		for _, r := range results {
			list = append(list, fmt.Sprint(r.Reply.Code))
		}
		if sent := strings.TrimPrefix(w.out.String(), "LHLO c.example\r\n"); sent != c.sent {
			t.Errorf("%s: sent\n%q, want\n%q", c.name, sent, c.sent)
		}
		if got := strings.Join(list, " "); got != c.results || c.final != "" && final.String() != c.final {
			t.Errorf("%s: results %s, final %v; want %s, %s", c.name, got, final, c.results, c.final)
		}
		if c.final == "" && final.Positive() {
			t.Errorf("%s: final %v", c.name, final)
		}
		if (err == nil) != (c.fails == nil) || !errors.Is(err, c.fails) {
			t.Errorf("%s: %v, want %v", c.name, err, c.fails)
		}
	}
}

// TestLMTPHasNoOlderGreeting: HELO would make a session of another protocol.
func TestLMTPHasNoOlderGreeting(t *testing.T) {
	w := &wire{pieces: []string{greeting, "500 what?\r\n", "250 hello\r\n"}}
	c, err := NewClient(t.Context(), w, ClientOptions{LMTP: true})
	if err != nil {
		t.Fatal(err)
	}
	var re *ReplyError
	if err := c.Hello(t.Context(), "c.example"); !errors.As(err, &re) || err.Error() != "LHLO: 500 what?" {
		t.Errorf("%v", err)
	}
	if w.out.String() != "LHLO c.example\r\n" {
		t.Errorf("sent %q", w.out.String())
	}
}

// TestTwoMessagesOverLMTP: a message that one recipient did not get is no
// reason to lose step, and RSET comes before the next.
func TestTwoMessagesOverLMTP(t *testing.T) {
	client, server := net.Pipe()
	done := make(chan string, 1)
	go func() {
		defer server.Close()
		var got strings.Builder
		say := func(s string) { _, _ = io.WriteString(server, s) }
		hear := func(end string) {
			b := make([]byte, 1)
			for part := ""; !strings.HasSuffix(part, end); part += string(b) {
				if _, err := server.Read(b); err != nil {
					return
				}
				got.Write(b)
			}
		}
		say("220 mx.example LMTP\r\n")
		hear("\r\n")
		say(offer("PIPELINING CHUNKING"))
		from := 0
		for _, second := range []string{"552 5.2.2 full\r\n", "250 ok\r\n", "250 ok\r\n"} {
			hear("<e@d.example>\r\n")
			if strings.Contains(got.String()[from:], "RSET") {
				say("250 reset\r\n")
			}
			say("250 ok\r\n250 ok\r\n250 ok\r\n")
			hear("LAST\r\nx\r\n")
			say("250 ok\r\n" + second)
			from = got.Len()
		}
		done <- got.String()
	}()
	c := lmtpClient(t, client)
	defer client.Close()
	for i, want := range []string{"250 552", "250 250", "250 250"} {
		results, final, err := c.Send(t.Context(), envelope(t, "c@d.example", "e@d.example"), strings.NewReader("x\r\n"))
		if err != nil || final.Code != 250 || fmt.Sprintf("%d %d", results[0].Reply.Code, results[1].Reply.Code) != want {
			t.Fatalf("message %d: %v, %v, %v; want %s", i+1, results, final, err, want)
		}
	}
	const one = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@d.example>\r\nBDAT 3 LAST\r\nx\r\n"
	if got, want := <-done, "LHLO c.example\r\n"+one+"RSET\r\n"+one+one; got != want {
		t.Errorf("sent\n%q, want\n%q", got, want)
	}
}

// TestTheLastWordsOverLMTP: a server that refuses in the middle of a message
// has refused it for everybody who waited.
func TestTheLastWordsOverLMTP(t *testing.T) {
	w := &closing{writes: 6}
	w.pieces = []string{greeting, offer(""), "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "552 5.3.4 too large\r\n"}
	results, final, err := lmtpClient(t, w).Send(t.Context(), envelope(t, "c@d.example"), strings.NewReader(strings.Repeat("ab\r\n", 100000)))
	if err != nil || final.Code != 552 || results[0].Reply.Code != 552 {
		t.Errorf("%v, %v, %v", results, final, err)
	}
}

// TestDATAAnsweredAsIfItWereOver: a positive reply to a message that was never
// sent must not count as one that was taken.
func TestDATAAnsweredAsIfItWereOver(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		for _, words := range []string{"250 ok\r\n", "334 go\r\n"} {
			w := &wire{pieces: []string{greeting, offer("PIPELINING"), "250 ok\r\n250 ok\r\n" + words}}
			c, err := NewClient(t.Context(), w, ClientOptions{LMTP: lmtp})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Hello(t.Context(), "c.example"); err != nil {
				t.Fatal(err)
			}
			_, final, err := c.Send(t.Context(), envelope(t, "c@d.example"), strings.NewReader("x\r\n"))
			var re *ReplyError
			if !errors.As(err, &re) || final.Positive() {
				t.Errorf("LMTP %v, %q: %v, %v", lmtp, words, final, err)
			}
		}
	}
}

// sized is a reader that tells its size and nothing else.
type sized struct {
	io.Reader
	size int64
}

func (s sized) Size() int64 { return s.size }

// TestABodyThatTellsItsSize goes as one chunk however large it is, and one
// that told a wrong size is not taken.
func TestABodyThatTellsItsSize(t *testing.T) {
	text := strings.Repeat("12345678\r\n", largeBuffer)
	for _, c := range []struct {
		name  string
		size  int64
		chunk string
		fails bool
	}{
		{"as it is", int64(len(text)), fmt.Sprintf("BDAT %d LAST\r\n", len(text)), false},
		{"too small", int64(len(text)) - 1, "BDAT", true},
		{"too large", int64(len(text)) + 1, "BDAT", true},
		{"not known", -1, "DATA\r\n", false},
	} {
		s := &sink{}
		srv := serverFor(s)
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- srv.ServeConn(t.Context(), server) }()
		seen := &tapped{Conn: client}
		cl, err := NewClient(t.Context(), seen, ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.Hello(t.Context(), "c.example"); err != nil {
			t.Fatal(err)
		}
		_, final, err := cl.Send(t.Context(), envelope(t, "c@d.example"), sized{strings.NewReader(text), c.size})
		if (err != nil) != c.fails || final.Positive() == c.fails || !strings.Contains(seen.sent.String(), c.chunk) {
			t.Errorf("%s: %v, %v", c.name, final, err)
		}
		client.Close()
		if err := <-done; err == nil {
			t.Errorf("%s: the session ended with QUIT", c.name)
		}
		if n := len(s.whole()); n != 1 && !c.fails || n != 0 && c.fails {
			t.Errorf("%s: %d messages taken", c.name, n)
		}
	}
}

// A tapped connection keeps what is written.
type tapped struct {
	net.Conn
	sent strings.Builder
}

func (t *tapped) Write(p []byte) (int, error) {
	t.sent.Write(p)
	return t.Conn.Write(p)
}
