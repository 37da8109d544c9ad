package smtp

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postern/mail"
)

// A sink is a session that takes everything but recipients that begin with
// "no", and remembers what it took.
type sink struct {
	from  mail.ReversePath
	to    []string
	mails []taken
	ended []error
	reply mail.Reply // to the end of a message; zero: 250
	lazy  bool       // leaves the message unread
}

type taken struct {
	from mail.ReversePath
	to   []string
	body string
	err  error
}

func (s *sink) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }

func (s *sink) Mail(_ context.Context, from mail.ReversePath, _ mail.SenderParams) mail.Reply {
	s.from = from
	return mail.Reply{}
}

func (s *sink) Rcpt(_ context.Context, to mail.ForwardPath, _ mail.RecipientParams) mail.Reply {
	if strings.HasPrefix(to.Address().Local(), "no") {
		return mail.NewReply(550, "5.1.1", "no such mailbox")
	}
	s.to = append(s.to, to.String())
	return replyOK
}

func (s *sink) Data(_ context.Context, body io.Reader) mail.Reply {
	var b []byte
	var err error
	if !s.lazy {
		b, err = io.ReadAll(body)
	}
	s.mails = append(s.mails, taken{s.from, s.to, string(b), err})
	if s.reply.IsZero() {
		return replyOK
	}
	return s.reply
}

func (s *sink) Reset()          { s.from, s.to = mail.ReversePath{}, nil }
func (s *sink) Close(err error) { s.ended = append(s.ended, err) }

// whole returns the messages that were read to their end.
func (s *sink) whole() []string {
	var list []string
	for _, m := range s.mails {
		if m.err == nil {
			list = append(list, m.body)
		}
	}
	return list
}

func handlerOf(s Session) Handler {
	return HandlerFunc(func(context.Context, *Peer) (Session, mail.Reply) { return s, mail.Reply{} })
}

func serverFor(s Session) *Server { return &Server{Name: "mx.example", Handler: handlerOf(s)} }

// A script is a connection whose client has said all that it will say. It is
// handed over in pieces of step octets, and then the client is gone.
type script struct {
	in   []byte
	step int
	out  bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if s.step > 0 {
		n = min(n, s.step)
	}
	n = copy(p[:n], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *script) Close() error                { return nil }
func (s *script) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 25} }

func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 66), Port: 4711} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// play lets a client say input and returns the replies.
func play(srv *Server, step int, input string) (string, error) {
	c := &script{in: []byte(input), step: step}
	err := srv.ServeConn(context.Background(), c)
	return c.out.String(), err
}

// codesOf returns the code of each reply.
func codesOf(replies string) string {
	var list []string
	for line := range strings.Lines(replies) {
		if len(line) > 3 && line[3] == ' ' {
			list = append(list, line[:3])
		}
	}
	return strings.Join(list, " ")
}

const begin = "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

func TestDialogues(t *testing.T) {
	for _, c := range []struct{ name, input, codes string }{
		{"one message", begin + "DATA\r\nhello\r\n.\r\nQUIT\r\n", "220 250 250 250 354 250 221"},
		{"verbs in any case, space before the line end", "ehlo c.example \r\nmail from:<a@b.example>\r\nrcpt to: <c@d.example>\r\ndata \r\n.\r\nquit\r\n", "220 250 250 250 354 250 221"},
		{"nobody greets", "MAIL FROM:<a@b.example>\r\nQUIT\r\n", "220 503 221"},
		{"HELO is enough", "HELO c.example\r\nMAIL FROM:<>\r\nQUIT\r\n", "220 250 250 221"},
		{"no name in EHLO", "EHLO\r\nEHLO a b\r\nQUIT\r\n", "220 501 501 221"},
		{"no recipient", "EHLO c.example\r\nMAIL FROM:<>\r\nDATA\r\nQUIT\r\n", "220 250 250 503 221"},
		{"every recipient refused", "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<no@d.example>\r\nDATA\r\nQUIT\r\n", "220 250 250 550 503 221"},
		{"MAIL in a transaction", begin + "MAIL FROM:<>\r\nDATA\r\n.\r\nQUIT\r\n", "220 250 250 250 503 354 250 221"},
		{"RSET ends it", begin + "RSET\r\nRCPT TO:<c@d.example>\r\nDATA\r\nQUIT\r\n", "220 250 250 250 250 503 503 221"},
		{"EHLO ends it", begin + "EHLO c.example\r\nRCPT TO:<c@d.example>\r\nQUIT\r\n", "220 250 250 250 250 503 221"},
		{"a second message needs its own MAIL", begin + "DATA\r\n.\r\nRCPT TO:<c@d.example>\r\nDATA\r\nQUIT\r\n", "220 250 250 250 354 250 503 503 221"},
		{"parameters where none belong", begin + "DATA x\r\nRSET x\r\nQUIT x\r\nQUIT\r\n", "220 250 250 250 501 501 501 221"},
		{"unknown verbs", "JUNK\r\nABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n\r\n EHLO c\r\nQUIT\r\n", "220 500 500 500 500 221"},
		{"what is known and not offered", "EHLO c.example\r\nSTARTTLS\r\nAUTH PLAIN AA==\r\nXCLIENT ADDR=1.2.3.4\r\nEXPN x\r\nETRN x\r\nQUIT\r\n", "220 250 502 502 502 502 500 221"},
		{"VRFY, NOOP, HELP", "VRFY x\r\nVRFY\r\nNOOP x\r\nHELP\r\nQUIT\r\n", "220 252 501 250 214 221"},
		{"an HTTP request", "POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\nQUIT\r\n", "220 421"},
		{"an unknown method", "PATCH / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n", "220 421"},
		{"a method without a version", "delete /x\r\nEHLO x\r\n", "220 421"},
		{"a method of our own", "NOOP / HTTP/1.1\r\nEHLO x\r\n", "220 421"},
		{"a long method", strings.Repeat("X", 40) + " / HTTP/1.0\r\nEHLO x\r\n", "220 421"},
		{"a method behind spaces", "  BREW / HTTP/1.1 \r\nEHLO x\r\n", "220 421"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "220 421"},
		{"RTSP and SIP", "DESCRIBE rtsp://x RTSP/1.0\r\nEHLO x\r\n", "220 421"},
		{"a field of a header", "Host: x\r\nEHLO x\r\n", "220 421"},
		{"a boundary", "--x\r\nEHLO x\r\n", "220 421"},
		{"a hello of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\nEHLO x\r\n", "220 500"},
		{"a NUL in a command", "EHLO c\x00d\r\nEHLO x\r\n", "220 500"},
		{"an escape in a command", "NOOP \x1b[2J\r\nEHLO x\r\n", "220 500"},
		{"a tab in a command", "NOOP\t\r\nEHLO x\r\n", "220 500"},
		{"what only looks so", "NOOP a/b\r\nNOOP HTTP\r\nVRFY x/1\r\nQUIT\r\n", "220 250 250 252 221"},

		{"unknown parameters", "EHLO c.example\r\nMAIL FROM:<a@b.example> XYZ=1\r\nMAIL FROM:<a@b.example> BODY=BINARYMIME\r\nMAIL FROM:<> REQUIRETLS\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example> SIZE=1\r\nRCPT TO:<c@d.example> XYZ\r\nQUIT\r\n", "220 250 555 555 555 250 555 555 221"},
		{"parameters after HELO", "HELO c.example\r\nMAIL FROM:<a@b.example> SIZE=1\r\nQUIT\r\n", "220 250 555 221"},
		{"bad parameters", "EHLO c.example\r\nMAIL FROM:<a@b.example>SIZE=1\r\nMAIL FROM:<a@b.example> =1\r\nMAIL FROM:<a@b.example> SIZE=\r\nMAIL FROM:<a@b.example> SIZE=1 SIZE=1\r\nMAIL FROM:<a@b.example> SIZE=-1\r\nMAIL FROM:<a@b.example> SIZE=99999999999999999999\r\nMAIL FROM:<a@b.example> BODY=9BIT\r\nMAIL FROM:<a@b.example> RET=ALL\r\nMAIL FROM:<a@b.example> ENVID=a+zz\r\nMAIL FROM:<a@b.example> SMTPUTF8=1\r\nQUIT\r\n", "220 250 501 501 501 501 501 501 501 501 501 501 221"},
		{"good parameters", "EHLO c.example\r\nMAIL FROM:<a@b.example> SIZE=1000  BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb\r\nRCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d.example\r\nRCPT TO:<c@d.example> NOTIFY=NEVER\r\nQUIT\r\n", "220 250 250 250 250 221"},
		{"bad NOTIFY and ORCPT", begin + "RCPT TO:<c@d.example> NOTIFY=NEVER,DELAY\r\nRCPT TO:<c@d.example> NOTIFY=DELAY,DELAY\r\nRCPT TO:<c@d.example> NOTIFY\r\nRCPT TO:<c@d.example> ORCPT=c@d.example\r\nRCPT TO:<c@d.example> ORCPT=rfc822;a+d\r\nQUIT\r\n", "220 250 250 250 501 501 501 501 501 221"},
		{"declared too large", "EHLO c.example\r\nMAIL FROM:<> SIZE=26214401\r\nMAIL FROM:<> SIZE=26214400\r\nQUIT\r\n", "220 250 552 250 221"},

		{"source routes", "EHLO c.example\r\nMAIL FROM:<@x.example:a@b.example>\r\nMAIL FROM:<>\r\nRCPT TO:<@x.example,@y.example:c@d.example>\r\nQUIT\r\n", "220 250 501 250 501 221"},
		{"no addresses", "EHLO c.example\r\nMAIL FROM:a@b.example\r\nMAIL FROM:<a@b.example\r\nMAIL a@b.example\r\nMAIL FROM:\r\nMAIL\r\nMAIL FROM:<>\r\nRCPT TO:<>\r\nRCPT TO:<c@d@e.example>\r\nRCPT TO:c@d.example\r\nQUIT\r\n", "220 250 501 501 501 501 501 250 501 501 501 221"},
		{"postmaster needs no domain", "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nQUIT\r\n", "220 250 250 250 221"},
		{"a parameter in a quoted local part stays there", "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<\"v@evil.example> ORCPT=rfc822;x\"@d.example>\r\nQUIT\r\n", "220 250 250 250 221"},
		{"international addresses", "EHLO c.example\r\nMAIL FROM:<ä@b.example>\r\nMAIL FROM:<ä@b.example> SMTPUTF8\r\nRCPT TO:<ö@d.example>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<ö@d.example>\r\nQUIT\r\n", "220 250 553 250 250 250 250 553 221"},

		{"chunks", begin + "BDAT 7\r\nhello\r\nBDAT 0\r\nBDAT 3 LAST\r\n.\r\nQUIT\r\n", "220 250 250 250 250 250 250 221"},
		{"a chunk that looks like commands", begin + "BDAT 18 LAST\r\nRSET\r\nQUIT\r\n.\r\nX\r\nQUIT\r\n", "220 250 250 250 250 221"},
		{"NOOP between chunks", begin + "BDAT 3\r\na\r\nNOOP\r\nBDAT 0 LAST\r\nQUIT\r\n", "220 250 250 250 250 250 250 221"},
		{"RSET between chunks", begin + "BDAT 3\r\na\r\nRSET\r\nBDAT 3 LAST\r\na\r\nQUIT\r\n", "220 250 250 250 250 250 503 221"},
		{"DATA between chunks", begin + "BDAT 3\r\na\r\nDATA\r\nBDAT 3 LAST\r\na\r\nQUIT\r\n", "220 250 250 250 250 503 503 221"},
		{"MAIL between chunks", begin + "BDAT 3\r\na\r\nMAIL FROM:<>\r\nBDAT 3 LAST\r\na\r\nQUIT\r\n", "220 250 250 250 250 503 503 221"},
		{"LAST twice", begin + "BDAT 3 LAST\r\na\r\nBDAT 3 LAST\r\nb\r\nQUIT\r\n", "220 250 250 250 250 503 221"},
		{"a chunk without recipients is read", "EHLO c.example\r\nMAIL FROM:<>\r\nBDAT 6\r\nQUIT\r\nQUIT\r\n", "220 250 250 503 221"},
		{"BDAT without a size closes", begin + "BDAT\r\nQUIT\r\n", "220 250 250 250 501"},
		{"BDAT with a negative size closes", begin + "BDAT -1 LAST\r\nQUIT\r\n", "220 250 250 250 501"},
		{"BDAT with a size of 65 bits closes", begin + "BDAT 18446744073709551617 LAST\r\nQUIT\r\n", "220 250 250 250 501"},
		{"BDAT with a word that is not LAST closes", begin + "BDAT 3 FIRST\r\nQUIT\r\n", "220 250 250 250 501"},
		{"BDAT behind a space closes", begin + " BDAT 6 LAST\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT with a tab closes", begin + "BDAT\t6 LAST\r\nRSET\r\n", "220 250 250 250 500"},
		{"BDAT without a space closes", begin + "bdat6 LAST\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT with a colon closes", begin + "BDAT:6\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT behind another space closes", begin + "\u00a0BDAT 6\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT in one long word closes", begin + "BDAT" + strings.Repeat("0", 20) + "\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT in a long line closes", begin + "BDAT 6 LAST" + strings.Repeat(" ", 3000) + "\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT in a line without end closes", begin + "BDAT 6 LAST" + strings.Repeat(" ", 70000) + "\r\nRSET\r\n", "220 250 250 250 501"},
		{"BDAT behind a space, between chunks, closes", begin + "BDAT 3\r\na\r\n BDAT 6 LAST\r\nRSET\r\n", "220 250 250 250 250 501"},
		{"BDAT with a tab, between chunks, closes", begin + "BDAT 3\r\na\r\nBDAT\t6 LAST\r\nRSET\r\n", "220 250 250 250 250 500"},
		{"BDAT in a long line, between chunks, closes", begin + "BDAT 3\r\na\r\nBDAT 6" + strings.Repeat(" ", 3000) + "\r\nRSET\r\n", "220 250 250 250 250 501"},
		{"a NUL in a message", begin + "DATA\r\na\x00b\r\n.\r\nQUIT\r\n", "220 250 250 250 354 550"},
		{"a NUL in a chunk", begin + "BDAT 5 LAST\r\na\x00b\r\nQUIT\r\n", "220 250 250 250 550"},
		{"a chunk of another world closes", "EHLO c.example\r\nBDAT 9223372036854775807\r\nQUIT\r\n", "220 250 552"},
		{"a bare LF in a chunk", begin + "BDAT 3 LAST\r\na\nbQUIT\r\n", "220 250 250 250 550"},
		{"a bare CR at the end of the last chunk", begin + "BDAT 2 LAST\r\na\rQUIT\r\n", "220 250 250 250 550"},
		{"CRLF over two chunks", begin + "BDAT 2\r\na\rBDAT 1 LAST\r\n\nQUIT\r\n", "220 250 250 250 250 250 221"},

		{"a bare LF ends no command", "EHLO c.example\nQUIT\r\n", "220 500"},
		{"a bare CR in a command", "EHLO c.example\rQUIT\r\nQUIT\r\n", "220 500"},
		{"a long command", "NOOP " + strings.Repeat("x", 2041) + "\r\nNOOP " + strings.Repeat("x", 2042) + "\r\nNOOP " + strings.Repeat("x", 70000) + "\r\nQUIT\r\n", "220 250 500 500 221"},
		{"a command without end", "NOOP " + strings.Repeat("x", 2<<20) + "\r\nQUIT\r\n", "220 421"},
		{"twenty errors", strings.Repeat("JUNK\r\n", 30), "220" + strings.Repeat(" 500", 20) + " 421"},
	} {
		for _, step := range []int{0, 1, 7} {
			got, _ := play(serverFor(&sink{}), step, c.input)
			if codesOf(got) != c.codes {
				t.Errorf("%s, %d octets at a time:\n%q\ngot  %s\nwant %s\n%s", c.name, step, cutText(c.input), codesOf(got), c.codes, got)
			}
		}
	}
}

func cutText(s string) string {
	if len(s) > 400 {
		return s[:400] + "..."
	}
	return s
}

func TestEnhancedCodesStandOnEachLineButNotInGreetings(t *testing.T) {
	got, _ := play(serverFor(&sink{}), 0, "EHLO c.example\r\nJUNK\r\nQUIT\r\n")
	for line := range strings.Lines(got) {
		_, _, has := mail.CutEnhancedCode(strings.TrimSpace(line[4:]))
		if want := strings.HasPrefix(line, "500") || strings.HasPrefix(line, "221"); has != want {
			t.Errorf("%q: enhanced code %v, want %v", line, has, want)
		}
	}
}

func TestWithoutAnExtension(t *testing.T) {
	srv := serverFor(&sink{})
	srv.Without = []string{"chunking", "SIZE", "ENHANCEDSTATUSCODES"}
	got, _ := play(srv, 0, "EHLO c.example\r\nMAIL FROM:<> SIZE=1\r\nBDAT 0\r\nQUIT\r\n")
	if codesOf(got) != "220 250 555 502" || strings.Contains(got, "CHUNKING") || strings.Contains(got, " 5.5.") {
		t.Errorf("got %s\n%s", codesOf(got), got)
	}
}

// TestAChunkBeyondAllLimits is refused and not read over: that could take for ever.
func TestAChunkBeyondAllLimits(t *testing.T) {
	srv := serverFor(&sink{})
	srv.Limits.MessageSize = 10
	out, err := play(srv, 0, begin+"BDAT 9223372036854775807\r\n"+strings.Repeat("x\r\n", 10)+"QUIT\r\n")
	if codesOf(out) != "220 250 250 250 552" || err == nil {
		t.Errorf("%s, %v", codesOf(out), err)
	}
	out, _ = play(srv, 0, begin+"BDAT 30\r\n"+strings.Repeat("x\r\n", 10)+"BDAT 3 LAST\r\nx\r\nNOOP\r\nQUIT\r\n")
	if codesOf(out) != "220 250 250 250 552 503 250 221" {
		t.Errorf("a chunk that is a little too large: %s", codesOf(out))
	}
}
