package probe

import (
	"bytes"
	"net"
	"time"

	"postern/transcript"
)

// maxPreface is more than proxies say before they begin to hand on.
const maxPreface = 1 << 10

// patienceSession is longer than any reply is waited for. It is not for ever, so
// that an end of the caller's context that came in just this moment is not lost.
const patienceSession = 10 * time.Minute

// A preface is a tunnel in which some proxies send a few words of their own
// first, with or without a length (RFC 9110 section 9.3.6 allows neither). They
// are left out when a mail server's greeting follows; otherwise all is read as
// it came. It is used by one reader at a time.
type preface struct {
	net.Conn
	length int // of a body that the answer has announced; 0: none
	rec    *transcript.Transcript
	held   []byte
	passed bool // what comes is handed on as it is
}

func (c *preface) Read(p []byte) (int, error) {
	for !c.passed {
		b := make([]byte, maxPreface)
		n, err := c.Conn.Read(b)
		if c.held = append(c.held, b[:n]...); err != nil && len(c.held) == 0 {
			return 0, err
		}
		at := c.greeting()
		switch {
		case at > 0:
			c.rec.Add(time.Now(), transcript.Received, c.held[:at])
			c.held, c.passed = c.held[at:], true
			_ = c.SetReadDeadline(time.Now().Add(patienceSession)) // that of the greeting is over
		case at == 0, err != nil, len(c.held) >= maxPreface:
			c.passed = true
		default:
			_ = c.SetReadDeadline(time.Now().Add(patiencePage)) // a page ends without a greeting
		}
	}
	if len(c.held) > 0 {
		n := copy(p, c.held)
		c.held = c.held[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// greeting returns where a mail server's first word begins, and -1 while there
// is none. A server that does not greet with 220 says at once what it says.
func (c *preface) greeting() int {
	const word = "220"
	digits := 0
	for digits < min(len(c.held), len(word)) && c.held[digits] >= '0' && c.held[digits] <= '9' {
		digits++
	}
	if digits == min(len(c.held), len(word)) {
		return 0
	}
	if c.length > 0 && len(c.held) > c.length && bytes.HasPrefix(c.held[c.length:], []byte(word)) {
		return c.length
	}
	if i := bytes.Index(c.held, []byte("\n"+word)); i >= 0 {
		return i + 1
	}
	return -1
}
