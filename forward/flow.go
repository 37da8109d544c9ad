package forward

import (
	"errors"
	"net"
	"sync/atomic"
)

// A Flow is what a tunnel has carried so far. The zero Flow is ready, and safe
// for concurrent use.
type Flow struct{ up, down atomic.Int64 }

// Count returns the octets that have passed until now.
func (f *Flow) Count() Count { return Count{Up: f.up.Load(), Down: f.down.Load()} }

// Counted returns the connection to a destination so that Splice counts what
// it carries in f while it does.
func Counted(server net.Conn, f *Flow) net.Conn { return &counted{server, f} }

type counted struct {
	net.Conn
	flow *Flow
}

// SetLinger is that of the connection to the destination, where it has one.
func (c *counted) SetLinger(seconds int) error {
	if l, ok := c.Conn.(interface{ SetLinger(seconds int) error }); ok {
		return l.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}
