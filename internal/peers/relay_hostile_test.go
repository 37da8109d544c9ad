package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	hostileHello = "EHLO hostile.example\r\n"
	// What a hostile client wants to bring in behind the back of the server, for the world and for
	// us, from a sender by which it is found. An end of a message stands only at its end: what
	// follows one is the client's own next command.
	smuggledAbroad = "MAIL FROM:<smuggled@far.example>\r\nRCPT TO:<ben@elsewhere.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
	smuggledHome   = "MAIL FROM:<smuggled@far.example>\r\nRCPT TO:<anna@victim.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
	smuggled       = "MAIL FROM:<smuggled@far.example>\r\nRCPT TO:<ben@elsewhere.example>\r\nRCPT TO:<anna@victim.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
	opening        = "MAIL FROM:<open@far.example>\r\nRCPT TO:<anna@victim.example>\r\n"
	openingData    = opening + "DATA\r\nSubject: open\r\n\r\nx"
)

// chunk is a chunk of a message that is not its last (RFC 3030).
func chunk(text string) string { return fmt.Sprintf("BDAT %d\r\n%s", len(text), text) }

// hostile is what clients send that want more than they are granted. Each piece waits for an
// answer; nothing from smuggled@ may come in, and nothing may leave our domain.
var hostile = []struct {
	name   string
	port   string
	pieces []string
}{
	{"LF . LF hides a message", "25", []string{hostileHello, openingData + "\n.\n" + smuggled}},
	{"LF . CRLF hides a message", "25", []string{hostileHello, openingData + "\n.\r\n" + smuggled}},
	{"CRLF . LF hides a message", "25", []string{hostileHello, openingData + "\r\n.\n" + smuggled}},
	{"CR . CR hides a message", "25", []string{hostileHello, openingData + "\r.\r" + smuggled}},
	{"CRLF . CR hides a message", "25", []string{hostileHello, openingData + "\r\n.\r" + smuggled}},
	{"CR CRLF . CR CRLF hides a message", "25", []string{hostileHello, openingData + "\r\r\n.\r\r\n" + smuggled}},
	{"NUL before the end hides a message", "25", []string{hostileHello, openingData + "\r\n\x00.\r\n" + smuggled}},
	{"a chunk that holds commands", "25", []string{hostileHello, opening + chunk(smuggledHome), "RSET\r\n"}},
	{"a chunk without a transaction", "25", []string{hostileHello, chunk(smuggledHome), "RSET\r\n"}},
	{"a chunk larger than a number", "25", []string{hostileHello, opening + "BDAT 18446744073709551622\r\n" + smuggledHome}},
	{"a refused message's text is no command", "25", []string{hostileHello, "MAIL FROM:<open@far.example>\r\nRCPT TO:<nobody@victim.example>\r\n", "DATA\r\n"}},
	{"commands before STARTTLS are forgotten", "587", []string{hostileHello, "STARTTLS\r\n" + smuggledAbroad}},
	{"a login in clear", "587", []string{hostileHello, "AUTH PLAIN AGFubmEAcGx1bS1sYW50ZXJuLWhlcm9uLTgzeA==\r\n", smuggledAbroad}},
	{"a login where there is none", "25", []string{hostileHello, "AUTH PLAIN AGFubmEAcGx1bS1sYW50ZXJuLWhlcm9uLTgzeA==\r\n", smuggledAbroad}},
	{"AUTH= as if somebody had logged in", "25", []string{hostileHello, "MAIL FROM:<smuggled@far.example> AUTH=anna@victim.example\r\nRCPT TO:<ben@elsewhere.example>\r\n", "DATA\r\n"}},
	{"a PROXY header that nobody asked for", "25", []string{"PROXY TCP4 127.0.0.1 127.0.0.1 4444 25\r\n", hostileHello, smuggledAbroad}},
	{"XCLIENT", "25", []string{hostileHello, "XCLIENT ADDR=127.0.0.1 NAME=localhost LOGIN=anna\r\n", hostileHello, smuggledAbroad}},
	{"XFORWARD and ETRN", "25", []string{hostileHello, "XFORWARD ADDR=127.0.0.1\r\n", "ETRN elsewhere.example\r\n", smuggledAbroad}},
	{"the name of our own host", "25", []string{"EHLO mx.victim.example\r\n", smuggledAbroad}},
	{"our own address as a name", "25", []string{"EHLO [203.0.113.10]\r\n", smuggledAbroad}},
	{"an HTTP request", "25", []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n" + hostileHello + smuggledHome}},
	{"addresses with a second address in them", "25", []string{
		hostileHello, "MAIL FROM:<smuggled@far.example>\r\n",
		"RCPT TO:<ben%elsewhere.example@victim.example>\r\n", "RCPT TO:<ben@elsewhere.example@victim.example>\r\n",
		"RCPT TO:<elsewhere.example!ben@victim.example>\r\n", "RCPT TO:<\"ben@elsewhere.example\"@victim.example>\r\n",
		"RCPT TO:<@victim.example:ben@elsewhere.example>\r\n", "RCPT TO:<ben@elsewhere.example> ORCPT=rfc822;anna@victim.example\r\n",
		"RCPT TO:<ben@elsewhere.example\x00@victim.example>\r\n", "RCPT TO:<anna@victim.example\x00.elsewhere.example>\r\n",
		"RCPT TO:<ben@elsewhere.example>,<anna@victim.example>\r\n", "RCPT TO:<anna@victim.example> <ben@elsewhere.example>\r\n",
		"RCPT TO:<ben>\r\n", "RCPT TO:<ben@[203.0.113.10]>\r\n", "RCPT TO:<ben@victim.example.>\r\n", "DATA\r\n",
	}},
	{"what was granted does not outlive RSET", "25", []string{hostileHello, opening, "RSET\r\n", "MAIL FROM:<smuggled@far.example>\r\n", "RCPT TO:<ben@elsewhere.example>\r\n", "DATA\r\n", "x\r\n.\r\n"}},
	{"what was granted does not outlive EHLO", "25", []string{hostileHello, opening, hostileHello, "DATA\r\n", "x\r\n.\r\n"}},
	{"one granted, one not", "25", []string{hostileHello, "MAIL FROM:<open@far.example>\r\nRCPT TO:<ben@elsewhere.example>\r\nRCPT TO:<anna@victim.example>\r\nDATA\r\n", "Subject: open\r\nTo: ben@elsewhere.example\r\nBcc: ben@elsewhere.example\r\nResent-To: ben@elsewhere.example\r\n\r\nx\r\n.\r\n"}},
}

// TestHostileInputBringsNothingIn says it all to a relay that runs, over both families, and then
// looks at what lies in its queue.
func TestHostileInputBringsNothingIn(t *testing.T) {
	Require(t)
	target := Start(t, relayCase(t, "closed"))
	t.Run("says", func(t *testing.T) { // returns when all of them have ended
		for _, host := range []string{Target4, Target6} {
			for _, h := range hostile {
				t.Run(h.name+" to "+host, func(t *testing.T) {
					t.Parallel()
					heard := insist(t, target, net.JoinHostPort(host, h.port), h.pieces)
					if heard == "" {
						t.Error("the server said nothing at all")
					}
					if h.name != "one granted, one not" {
						return
					}
					if !strings.Contains(heard, "\r\n550 5.7.1 We do not relay") || !strings.Contains(heard, "\r\n250 2.0.0 Stored") {
						t.Errorf("said %q", heard)
					}
				})
			}
		}
	})
	honest := 0
	for _, m := range target.queue(t) {
		if m.From != "<open@far.example>" || m.Identity != "" || len(m.To) != 1 {
			t.Errorf("in the queue: %+v", m)
			continue
		}
		grant := m.To[0].Grant
		if grant.Reason != "inbound" || grant.To != "<anna@victim.example>" || len(m.To[0].Goes) != 1 || m.To[0].Goes[0].To != "anna@victim.example" {
			t.Errorf("granted: %+v", m.To)
		}
		honest++
	}
	if honest < 2 { // the last of the list, over each family
		t.Errorf("%d messages in the queue: what is granted must come in", honest)
	}
}

// insist says each piece when the one before was answered, whatever the answer was, and returns
// all that the server said.
func insist(t *testing.T, target *Target, address string, pieces []string) string {
	t.Helper()
	c, err := target.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var heard strings.Builder
	b := make([]byte, 64<<10)
	listen := func() bool {
		// The banner is worth waiting for. A server that waits for more says nothing: that must not
		// hold up the test for long.
		wait := 10 * time.Second
		for {
			if heard.Len() > 0 {
				wait = 300 * time.Millisecond
			}
			_ = c.SetReadDeadline(time.Now().Add(wait))
			n, err := c.Read(b)
			heard.Write(b[:n])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return true
			}
			if err != nil {
				return false
			}
		}
	}
	for listen() && len(pieces) > 0 {
		if _, err := io.WriteString(c, pieces[0]); err != nil {
			break
		}
		pieces = pieces[1:]
	}
	return heard.String()
}
