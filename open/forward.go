package open

import (
	"context"
	"net"

	"postern/forward"
)

// Forward is a port passed on to another server, which sees Forward where the
// client should be, unless Header says who the client is. Its fields must not
// change once it runs.
type Forward struct {
	Dial   func(context.Context) (net.Conn, error) // the only way out
	Header forward.Header
	Limits forward.Limits
}

// Run passes on the connections of l until ctx ends.
func (f Forward) Run(ctx context.Context, l net.Listener) error { return f.forwarder().Run(ctx, l) }

// ServeConn passes on one connection.
func (f Forward) ServeConn(ctx context.Context, c net.Conn) error {
	_, err := f.forwarder().ServeConn(ctx, c)
	return err
}

func (f Forward) forwarder() *forward.Forwarder {
	return &forward.Forwarder{Dial: f.Dial, Header: f.Header, Limits: f.Limits}
}
