package forward

import (
	"errors"
	"net"
)

// Unread returns conn with octets put back in front of what it has yet to
// read; conn itself where there are none. It keeps rest. Splice hands them on
// and then uses what lies below.
func Unread(conn net.Conn, rest []byte) net.Conn {
	if len(rest) == 0 {
		return conn
	}
	return &unread{Conn: conn, rest: rest}
}

// unread is used by one reader at a time, as connections are here.
type unread struct {
	net.Conn
	rest []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.rest) == 0 {
		return u.Conn.Read(p)
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// CloseWrite says that no more will be written, where the connection can.
func (u *unread) CloseWrite() error { return closeWrite(u.Conn) }

// errNoHalf says that a connection has no half to close.
var errNoHalf = errors.New("the connection cannot end in one direction alone")

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errNoHalf
}
