package collect

import (
	"bytes"
	"net"
)

// Old web proxies carry a whole request to any port, also to that of a mail
// server, which skips the lines that it does not know and takes the body for
// commands. The session engine hangs up on an HTTP verb, as every mail server
// should; a collector wants to see such a message, and so it reads the head of
// a request away before the engine comes to it.

// maxWebHead is how much of a request's head is read away; proxies add a few
// fields to what the probe sends.
const maxWebHead = 16 << 10

type webListener struct{ net.Listener }

func (l webListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &webConn{Conn: conn}, nil
}

// A webConn is a connection without the head of a web request at its
// beginning. Only Read looks at it, and the engine reads from one goroutine.
type webConn struct {
	net.Conn
	seen  []byte // not handed on yet
	state webState
	head  int // octets of the head that were read away
}

type webState int

const (
	undecided webState = iota
	inHead
	passing
)

func (c *webConn) Read(p []byte) (int, error) {
	for c.state != passing {
		n, err := c.Conn.Read(p)
		c.seen = append(c.seen, p[:n]...)
		c.decide()
		if err != nil && len(c.seen) == 0 {
			return 0, err
		}
		if err != nil {
			c.state = passing
		}
	}
	if len(c.seen) > 0 {
		n := copy(p, c.seen)
		c.seen = c.seen[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

var webVerbs = [][]byte{[]byte("POST "), []byte("PUT ")}

func (c *webConn) decide() {
	if c.state == undecided {
		c.state = passing
		for _, verb := range webVerbs {
			n := min(len(verb), len(c.seen))
			switch {
			case !bytes.Equal(c.seen[:n], verb[:n]):
			case n == len(verb):
				c.state = inHead
			default:
				c.state = undecided
			}
			if c.state != passing {
				break
			}
		}
	}
	if c.state != inHead {
		return
	}
	if i := bytes.Index(c.seen, []byte("\r\n\r\n")); i >= 0 {
		c.seen, c.state = c.seen[i+4:], passing
		return
	}
	keep := min(3, len(c.seen)) // an end that may go on in the next piece
	c.head += len(c.seen) - keep
	c.seen = c.seen[len(c.seen)-keep:]
	if c.head > maxWebHead {
		c.state = passing
	}
}
