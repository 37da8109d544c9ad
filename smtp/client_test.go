package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/mail"
	"postern/transcript"
)

// A wire is a connection whose server says what the test wrote down, a piece
// for each read, and which keeps what the client sends.
type wire struct {
	script
	pieces []string
	fails  error // after the last piece; nil: io.EOF
	looks  bool  // somebody looks whether a piece is there: none comes before it is waited for
}

func (w *wire) SetReadDeadline(t time.Time) error { w.looks = !t.IsZero(); return nil }

func (w *wire) Read(p []byte) (int, error) {
	if w.looks {
		return 0, os.ErrDeadlineExceeded
	}
	if len(w.pieces) == 0 {
		if w.fails != nil {
			return 0, w.fails
		}
		return 0, io.EOF
	}
	n := copy(p, w.pieces[0])
	w.pieces[0] = w.pieces[0][n:]
	if w.pieces[0] == "" {
		w.pieces = w.pieces[1:]
	}
	return n, nil
}

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []string
		want   string // the reply, its lines joined by "/"
		kind   error
		seen   string
	}{
		{"one line", []string{"220 mx.example ESMTP\r\n"}, "220 mx.example ESMTP", nil, ""},
		{"no text", []string{"220\r\n"}, "220 ", nil, ""},
		{"no text but the space", []string{"220 \r\n"}, "220 ", nil, ""},
		{"several lines", []string{"250-mx.example\r\n250-SIZE 10\r\n250 HELP\r\n"}, "250 mx.example/SIZE 10/HELP", nil, ""},
		{"an octet at a time", strings.Split("250-a\r\n250 b\r\n", ""), "250 a/b", nil, ""},
		{"two replies in a segment", []string{"250 a\r\n550 b\r\n"}, "250 a", nil, ""},
		{"LF alone", []string{"250-a\n250 b\n"}, "250 a/b", nil, ""},
		{"an enhanced code", []string{"550-5.7.1 no\r\n550 5.7.1 never\r\n"}, "550 5.7.1 no/never", nil, ""},
		{"an enhanced code on the last line", []string{"550-no\r\n550 5.7.1 never\r\n"}, "550 5.7.1 no/never", nil, ""},
		{"an enhanced code of another class", []string{"550 2.1.5 no\r\n"}, "550 2.1.5 no", nil, ""},
		{"a text that holds another code", []string{"250 530 5.7.0 is what we say\r\n"}, "250 530 5.7.0 is what we say", nil, ""},
		{"two codes", []string{"250-a\r\n550 b\r\n"}, "550 a/b", nil, ""},
		{"HTTP", []string{"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"}, "", ErrNotSMTP, "HTTP/1.1 400 Bad Request\r\n"},
		{"SSH without a line end", []string{"SSH-2.0-x"}, "", ErrNotSMTP, "SSH-2.0-x"},
		{"TLS", []string{"\x15\x03\x01\x00\x02\x02\x46"}, "", ErrNotSMTP, "\x15\x03\x01\x00\x02\x02\x46"},
		{"digits", []string{"12\r\n"}, "", ErrNotSMTP, "12\r\n"},
		{"a code of class 1", []string{"150 x\r\n"}, "", ErrNotSMTP, "150 x\r\n"},
		{"garbage within a reply", []string{"250-a\r\nfoo\r\n"}, "", ErrNotSMTP, "250-afoo\r\n"},
		{"an empty line", []string{"\r\n"}, "", ErrNotSMTP, "\r\n"},
		{"closed at once", nil, "", ErrClosed, ""},
		{"closed within a reply", []string{"250-a\r\n25"}, "", ErrClosed, "250-a25"},
		{"a line without end", []string{"250 " + strings.Repeat("x", 5000)}, "", ErrLineTooLong, ""},
		{"lines without end", []string{strings.Repeat("250-xxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", 3000)}, "", ErrLineTooLong, ""},
	} {
		w := &wire{pieces: c.pieces}
		r, err := NewRaw(w, nil).Reply(t.Context())
		got := ""
		if !r.IsZero() {
			got = fmt.Sprintf("%d %s", r.Code, strings.Join(r.Lines, "/"))
			if e := r.Enhanced.String(); e != "" {
				got = fmt.Sprintf("%d %s %s", r.Code, e, strings.Join(r.Lines, "/"))
			}
		}
		if got != c.want || (c.kind == nil) != (err == nil) || !errors.Is(err, c.kind) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, err, c.want, c.kind)
		}
		var we *WireError
		if errors.As(err, &we) && c.seen != "" && string(we.Seen) != c.seen {
			t.Errorf("%s: seen %q, want %q", c.name, we.Seen, c.seen)
		}
	}
}

// TestAReplyOutlivesItsTimeout: a server may be slower than one wait, and the
// next wait gets the whole reply.
func TestAReplyOutlivesItsTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client, server := net.Pipe()
		rec := &transcript.Transcript{}
		r := NewRaw(client, rec)
		go func() {
			_, _ = io.WriteString(server, "250-a\r\n25")
			time.Sleep(10 * time.Second)
			_, _ = io.WriteString(server, "0 b\r\n")
		}()
		slow := errors.New("the test's patience")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 4*time.Second, slow)
		defer cancel()
		start := time.Now()
		_, err := r.Reply(ctx)
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, slow) || time.Since(start) != 4*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if r.Buffered() == 0 {
			t.Error("nothing is buffered")
		}
		reply, err := r.Reply(t.Context())
		if err != nil || reply.Code != 250 || len(reply.Lines) != 2 {
			t.Errorf("%v %v", reply, err)
		}
		if want := "<-  250-a\n<-  25\\c\n*** no answer in time\n<-  0 b\n"; rec.String() != want {
			t.Errorf("transcript\n%swant\n%s", rec, want)
		}
		cancelled, stop := context.WithCancelCause(t.Context())
		go func() { time.Sleep(time.Second); stop(slow) }()
		if _, err := r.Reply(cancelled); !errors.Is(err, ErrTimeout) || !errors.Is(err, slow) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestOctetsBeforeTLS: a reply injected behind 220 must not be read as one
// from inside TLS ("NO STARTTLS", CVE-2021-38371 and its kin).
func TestOctetsBeforeTLS(t *testing.T) {
	for _, extra := range []string{"250 injected\r\n", "25", "x"} {
		w := &wire{pieces: []string{"220 mx.example\r\n", "250-mx.example\r\n250 STARTTLS\r\n", "220 go\r\n" + extra}}
		c, err := NewClient(t.Context(), w, ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Hello(t.Context(), "c.example"); err != nil {
			t.Fatal(err)
		}
		if err := c.StartTLS(t.Context(), clientTLS()); !errors.Is(err, errEarlyReply) {
			t.Errorf("with %q behind 220: %v", extra, err)
		}
		if strings.Contains(w.out.String(), "\x16\x03") {
			t.Errorf("with %q behind 220 a handshake was begun", extra)
		}
	}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func envelope(t testing.TB, to ...string) mail.Envelope {
	e := mail.Envelope{From: mail.ReverseTo(address(t, "a@b.example"))}
	for _, s := range to {
		e.To = append(e.To, mail.Recipient{Path: mail.ForwardTo(address(t, s))})
	}
	return e
}

const greeting = "220 mx.example\r\n"

// TestSend is the client's side of the wire: what it sends, to the letter, for
// what a server offers and says.
func TestSend(t *testing.T) {
	const mailRcpt = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<no@d.example>\r\n"
	for _, c := range []struct {
		name, offers string
		says         []string
		body         string
		sent         string
		results      string
		final        int
		fails        error
	}{
		{
			"a plain server", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "550 no\r\n", "354 go\r\n", "250 taken\r\n"},
			"x\r\n.y\r\n",
			mailRcpt + "DATA\r\nx\r\n..y\r\n.\r\n", "250 550", 250, nil,
		},
		{
			"a line end that is missing", "PIPELINING",
			[]string{"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n", "250 taken\r\n"},
			"x",
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 550", 250, nil,
		},
		{
			"an empty message", "PIPELINING",
			[]string{"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n", "250 taken\r\n"},
			"",
			mailRcpt + "DATA\r\n.\r\n", "250 550", 250, nil,
		},
		{
			"a chunk", "PIPELINING/CHUNKING",
			[]string{"250 ok\r\n250 ok\r\n550 no\r\n", "250 taken\r\n"},
			".x\r\n",
			mailRcpt + "BDAT 4 LAST\r\n.x\r\n", "250 550", 250, nil,
		},
		{
			"MAIL is refused", "PIPELINING",
			[]string{"550 no\r\n503 no\r\n503 no\r\n503 no\r\n"},
			"x\r\n",
			mailRcpt + "DATA\r\n", "550 550", 550, nil,
		},
		{
			"MAIL is refused, one at a time", "",
			[]string{"550 no\r\n"},
			"x\r\n",
			"MAIL FROM:<a@b.example>\r\n", "550 550", 550, nil,
		},
		{
			"all recipients are refused", "PIPELINING",
			[]string{"250 ok\r\n550 no\r\n451 later\r\n554 none\r\n"},
			"x\r\n",
			mailRcpt + "DATA\r\n", "550 451", 451, nil,
		},
		{
			"all recipients are refused, and DATA is not", "PIPELINING",
			[]string{"250 ok\r\n550 no\r\n550 no\r\n354 go\r\n", "554 nobody\r\n"},
			"secret\r\n",
			mailRcpt + "DATA\r\n.\r\n", "550 550", 550, nil,
		},
		{
			"DATA is refused", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "451 later\r\n"},
			"x\r\n",
			mailRcpt + "DATA\r\n", "250 250", 451, nil,
		},
		{
			"421 in the middle", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "421 bye\r\n"},
			"x\r\n",
			mailRcpt, "250 421", 421, nil,
		},
		{
			"closed in the middle", "PIPELINING",
			[]string{"250 ok\r\n"},
			"x\r\n",
			mailRcpt + "DATA\r\n", "0 0", 0, ErrClosed,
		},
		{
			"closed after the message: nobody knows", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"},
			"x\r\n",
			mailRcpt + "DATA\r\nx\r\n.\r\n", "250 250", 0, ErrClosed,
		},
		{
			"a bare LF is not sent", "",
			[]string{"250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"},
			"x\r\n\n.\nMAIL",
			mailRcpt + "DATA\r\n", "250 250", 0, ErrBareLine,
		},
		{
			"a bare CR is not sent, not even at the end", "CHUNKING",
			[]string{"250 ok\r\n", "250 ok\r\n", "250 ok\r\n"},
			"x\r",
			mailRcpt, "250 250", 0, ErrBareLine,
		},
	} {
		offers := "250 mx.example\r\n"
		if c.offers != "" {
			offers = "250-mx.example\r\n250-" + strings.ReplaceAll(c.offers, "/", "\r\n250-")
			i := strings.LastIndex(offers, "250-")
			offers = offers[:i+3] + " " + offers[i+4:] + "\r\n"
		}
		w := &wire{pieces: append([]string{greeting, offers}, c.says...)}
		client, err := NewClient(t.Context(), w, ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Hello(t.Context(), "c.example"); err != nil {
			t.Fatal(err)
		}
		// A reader that does not tell its length.
		results, final, err := client.Send(t.Context(), envelope(t, "c@d.example", "no@d.example"), io.MultiReader(strings.NewReader(c.body)))
		var list []string
		for _, r := range results {
			list = append(list, fmt.Sprint(r.Reply.Code))
		}
		if sent := strings.TrimPrefix(w.out.String(), "EHLO c.example\r\n"); sent != c.sent {
			t.Errorf("%s: sent\n%q, want\n%q", c.name, sent, c.sent)
		}
		if got := strings.Join(list, " "); got != c.results || final.Code != c.final {
			t.Errorf("%s: results %s, final %v; want %s, %d", c.name, got, final, c.results, c.final)
		}
		if (err == nil) != (c.fails == nil) || !errors.Is(err, c.fails) {
			t.Errorf("%s: %v, want %v", c.name, err, c.fails)
		}
	}
}

func TestSendRefusesWhatTheServerCannot(t *testing.T) {
	w := &wire{pieces: []string{greeting, "250-mx.example\r\n250-SIZE 100\r\n250-DSN\r\n250 LIMITS RCPTMAX=2\r\n"}}
	c, err := NewClient(t.Context(), w, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Hello(t.Context(), "c.example"); err != nil {
		t.Fatal(err)
	}
	sent := w.out.Len()
	base := func(change func(*mail.Envelope)) mail.Envelope {
		e := envelope(t, "c@d.example")
		change(&e)
		return e
	}
	for _, c2 := range []struct {
		name string
		env  mail.Envelope
		want error
	}{
		{"an international sender", base(func(e *mail.Envelope) { e.From = mail.ReverseTo(address(t, "ä@b.example")) }), ErrNotOffered},
		{"an international recipient", envelope(t, "ä@b.example"), ErrNotOffered},
		{"eight bits", base(func(e *mail.Envelope) { e.Sender.Body = mail.Body8BitMIME }), ErrNotOffered},
		{"REQUIRETLS", base(func(e *mail.Envelope) { e.Sender.RequireTLS = true }), ErrNotOffered},
		{"too large", base(func(e *mail.Envelope) { e.Sender.Size = 101 }), ErrTooLarge},
		{"too many", envelope(t, "c@d.example", "d@d.example", "e@d.example"), ErrTooMany},
		{"no recipient", envelope(t), nil},
		{"a parameter in ENVID", base(func(e *mail.Envelope) { e.Sender.EnvID = "x BODY=8BITMIME" }), nil},
		{"a command in ENVID", base(func(e *mail.Envelope) { e.Sender.EnvID = "x\r\nRCPT TO:<v@evil.example>" }), nil},
		{"a parameter in ORCPT", base(func(e *mail.Envelope) { e.To[0].Params.ORcpt = "rfc822;x NOTIFY=NEVER" }), nil},
		{"a bracket in ORCPT", base(func(e *mail.Envelope) { e.To[0].Params.ORcpt = "rfc822> x" }), nil},
	} {
		_, _, err := c.Send(t.Context(), c2.env, strings.NewReader("x\r\n"))
		if err == nil || c2.want != nil && !errors.Is(err, c2.want) {
			t.Errorf("%s: %v, want %v", c2.name, err, c2.want)
		}
		if w.out.Len() != sent {
			t.Fatalf("%s: sent %q", c2.name, w.out.String()[sent:])
		}
	}
	if err := c.Auth(t.Context(), "anna", "1234"); !errors.Is(err, ErrNoTLS) || w.out.Len() != sent {
		t.Errorf("AUTH without TLS: %v", err)
	}
}

// TestClientAgainstEngine sends messages of many shapes from one to the other:
// what arrives is what was sent, in each way that the server may offer.
func TestClientAgainstEngine(t *testing.T) {
	var bodies []string
	for _, n := range []int{0, 1, 3000, largeBuffer - 1, largeBuffer, largeBuffer + 1, 200000} {
		bodies = append(bodies, strings.Repeat("..x.\r\n.\r\n", n/9+1)[:n/9*9])
	}
	bodies = append(bodies, ".\r\n", "..\r\n", "QUIT\r\n.\r\n", strings.Repeat("y", 998)+"\r\n")
	for _, without := range [][]string{nil, {"CHUNKING"}, {"PIPELINING"}, {"CHUNKING", "PIPELINING"}} {
		s := &sink{}
		srv := serverFor(s)
		srv.Without = without
		srv.Limits.Errors = -1
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- srv.ServeConn(t.Context(), server) }()
		c, err := NewClient(t.Context(), client, ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Hello(t.Context(), "c.example"); err != nil {
			t.Fatal(err)
		}
		var to []string
		for i := range 90 { // more than one group
			to = append(to, fmt.Sprintf("%040d@d.example", i))
		}
		to[7] = "no@d.example"
		env := envelope(t, to...)
		for i, body := range bodies {
			for _, r := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
				s.mails = nil
				results, final, err := c.Send(t.Context(), env, r)
				if err != nil || final.Code != 250 || results[7].Reply.Code != 550 || results[8].Reply.Code != 250 {
					t.Fatalf("without %v, body %d: %v %v", without, i, final, err)
				}
				if len(s.mails) != 1 || s.mails[0].body != body || len(s.mails[0].to) != 89 {
					t.Fatalf("without %v, body %d: %d octets arrived as %d for %d", without, i, len(body), len(s.mails[0].body), len(s.mails[0].to))
				}
			}
		}
		// A transaction in which nobody was accepted is ended before the next.
		if _, final, err := c.Send(t.Context(), envelope(t, "no@d.example"), strings.NewReader("x\r\n")); err != nil || final.Code != 550 {
			t.Fatalf("without %v, refused: %v %v", without, final, err)
		}
		if _, final, err := c.Send(t.Context(), envelope(t, "yes@d.example"), strings.NewReader("x\r\n")); err != nil || final.Code != 250 {
			t.Fatalf("without %v, after a refusal: %v %v", without, final, err)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A brokenSource says a message and then that it was cut off.
type brokenSource struct {
	io.Reader
	err error
}

func (s *brokenSource) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		err = s.err
	}
	return n, err
}

// TestASourceThatBreaksIsNotSentAsWhole: what the queue could not read to its
// end must not be delivered as if it had one.
func TestASourceThatBreaksIsNotSentAsWhole(t *testing.T) {
	for _, why := range []error{io.ErrUnexpectedEOF, fmt.Errorf("disk: %w", io.EOF), errors.New("disk")} {
		for _, without := range [][]string{nil, {"CHUNKING"}} {
			for _, n := range []int{10, 100000} {
				s := &sink{}
				srv := serverFor(s)
				srv.Without = without
				client, server := net.Pipe()
				done := make(chan error, 1)
				go func() { done <- srv.ServeConn(t.Context(), server) }()
				c, err := NewClient(t.Context(), client, ClientOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Hello(t.Context(), "c.example"); err != nil {
					t.Fatal(err)
				}
				source := &brokenSource{strings.NewReader(strings.Repeat("12345678\r\n", n/10)), why}
				if _, final, err := c.Send(t.Context(), envelope(t, "c@d.example"), source); !errors.Is(err, why) || final.Positive() {
					t.Errorf("%v, without %v, %d octets: %v, %v", why, without, n, final, err)
				}
				client.Close()
				if err := <-done; err == nil {
					t.Error("the session ended with QUIT")
				}
				if len(s.whole()) != 0 {
					t.Errorf("%v, without %v, %d octets: taken", why, without, n)
				}
			}
		}
	}
}

// TestClientKeepsWhatItHeard, and forgets a transaction when it is told to.
func TestClientKeepsWhatItHeard(t *testing.T) {
	s := &sink{}
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- serverFor(s).ServeConn(t.Context(), server) }()
	c, err := NewClient(t.Context(), client, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Hello(t.Context(), "c.example"); err != nil {
		t.Fatal(err)
	}
	if c.Banner().Text() != "mx.example ESMTP Postern" || c.Greeting().Lines[0] != "mx.example" {
		t.Errorf("banner %v, greeting %v", c.Banner(), c.Greeting())
	}
	if _, final, err := c.Send(t.Context(), envelope(t, "no@d.example"), strings.NewReader("")); err != nil || final.Code != 550 || s.from.IsZero() {
		t.Fatalf("%v %v, transaction from %v", final, err, s.from)
	}
	if err := c.Reset(t.Context()); err != nil || !s.from.IsZero() {
		t.Errorf("Reset: %v, transaction from %v", err, s.from)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("the server saw %v", err)
	}
}

// loginOnly offers LOGIN alone.
type loginOnly struct{ keeper }

func (loginOnly) Mechanisms() []string { return []string{"LOGIN"} }

func TestClientLogsInInsideTLS(t *testing.T) {
	for _, session := range []Session{&keeper{}, &loginOnly{}} {
		client, server := net.Pipe()
		srv := serverFor(session)
		srv.TLS = serverTLS()
		done := make(chan error, 1)
		go func() { done <- srv.ServeConn(t.Context(), server) }()
		rec := &transcript.Transcript{}
		c, err := NewClient(t.Context(), client, ClientOptions{Transcript: rec})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Hello(t.Context(), "c.example"), c.StartTLS(t.Context(), clientTLS())); err != nil {
			t.Fatal(err)
		}
		if c.TLS() == nil {
			t.Error("no TLS")
		}
		var re *ReplyError
		if err := c.Auth(t.Context(), "anna", "wrong"); !errors.As(err, &re) || re.Reply.Code != 535 {
			t.Errorf("a wrong password: %v", err)
		}
		if err := c.Auth(t.Context(), "anna", "1234"); err != nil {
			t.Error(err)
		}
		if _, final, err := c.Send(t.Context(), envelope(t, "c@d.example"), strings.NewReader("x\r\n")); err != nil || final.Code != 250 {
			t.Errorf("%v %v", final, err)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, secret := range []string{"MTIzNA", "AGFubmEA", "YW5uYQ"} {
			if strings.Contains(rec.String(), secret) {
				t.Errorf("the transcript holds %s:\n%s", secret, rec)
			}
		}
	}
}

// A closing wire takes some writes and then is closed by the server.
type closing struct {
	wire
	writes int
}

func (c *closing) Write(p []byte) (int, error) {
	if c.writes--; c.writes < 0 {
		return 0, syscall.EPIPE
	}
	return c.wire.Write(p)
}

// TestTheLastWordsOfAServer: one that refuses in the middle of a message and
// closes has said why; that is the result, and no failure of the wire.
func TestTheLastWordsOfAServer(t *testing.T) {
	for _, c := range []struct {
		words string
		final int
		fails error
	}{
		{"552 5.3.4 too large\r\n", 552, nil},
		{"421 4.3.2 going down\r\n", 421, nil},
		{"", 0, ErrClosed},
		{"250 it cannot have taken what it has not seen\r\n", 0, ErrClosed},
	} {
		w := &closing{writes: 6}
		w.pieces = []string{greeting, "250 mx.example\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"}
		if c.words != "" {
			w.pieces = append(w.pieces, c.words)
		}
		client, err := NewClient(t.Context(), w, ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Hello(t.Context(), "c.example"); err != nil {
			t.Fatal(err)
		}
		_, final, err := client.Send(t.Context(), envelope(t, "c@d.example"), strings.NewReader(strings.Repeat("ab\r\n", 100000)))
		if final.Code != c.final || (err == nil) != (c.fails == nil) || !errors.Is(err, c.fails) {
			t.Errorf("%q: %v, %v; want %d, %v", c.words, final, err, c.final, c.fails)
		}
	}
}

func TestHeloWhereEhloIsUnknown(t *testing.T) {
	w := &wire{pieces: []string{greeting, "502 what?\r\n", "250 hello\r\n"}}
	c, err := NewClient(t.Context(), w, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Hello(t.Context(), "c.example"); err != nil || len(c.Extensions()) != 0 {
		t.Errorf("%v %v", err, c.Extensions())
	}
	if w.out.String() != "EHLO c.example\r\nHELO c.example\r\n" {
		t.Errorf("%q", w.out.String())
	}
}

func TestBannerThatRefuses(t *testing.T) {
	_, err := NewClient(t.Context(), &wire{pieces: []string{"554 5.7.1 go away\r\n"}}, ClientOptions{})
	var re *ReplyError
	if !errors.As(err, &re) || re.Reply.Code != 554 || err.Error() != "banner: 554 5.7.1 go away" {
		t.Errorf("%v", err)
	}
}

// FuzzReply reads any octets in any cut: it ends, it keeps its bounds, and
// what it makes of them does not depend on the cut.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n550 5.7.1 c\r\n"), uint8(1))
	f.Add([]byte("250-a\nfoo\r\n220\r\n"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		read := func(n int) (list []mail.Reply, kinds []error) {
			var pieces []string
			for rest := in; len(rest) > 0; rest = rest[min(n, len(rest)):] {
				pieces = append(pieces, string(rest[:min(n, len(rest))]))
			}
			r := NewRaw(&wire{pieces: pieces}, nil)
			for range len(in) + 1 {
				reply, err := r.Reply(context.Background())
				if errors.Is(err, ErrClosed) || errors.Is(err, ErrNotSMTP) || errors.Is(err, ErrLineTooLong) {
					return list, append(kinds, err)
				}
				if err != nil || reply.Code < 200 || reply.Code > 599 || len(reply.Lines) == 0 {
					t.Fatalf("%v %v", reply, err)
				}
				list = append(list, reply)
			}
			t.Fatalf("more replies than octets in %q", in)
			return nil, nil
		}
		a, _ := read(len(in) + 1)
		b, _ := read(1 + int(step%9))
		for i := range min(len(a), len(b)) {
			if !bytes.Equal(a[i].AppendWire(nil), b[i].AppendWire(nil)) {
				t.Fatalf("%q: reply %d is %v or %v", in, i, a[i], b[i])
			}
		}
	})
}
