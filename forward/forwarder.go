package forward

import (
	"context"
	"fmt"
	"net"

	proxyproto "github.com/pires/go-proxyproto"
	"postern/internal/netop"
)

// A Header says what a Forwarder tells the far server of the client.
type Header uint8

// The headers of the PROXY protocol.
const (
	NoHeader Header = iota // nothing: the far server takes the forwarder for the client
	HeaderV1
	HeaderV2
)

// A Forwarder passes a port on to another place. Its fields must not change
// once it runs.
type Forwarder struct {
	Dial   func(context.Context) (net.Conn, error)   // reaches the other place
	Header Header                                    // sent before the first octet of a tunnel
	Limits Limits                                    // zero fields take those of DefaultLimits
	Ended  func(client net.Conn, n Count, err error) // told of each tunnel; may be nil
}

// Run passes on the connections of l until ctx ends, and waits for them.
func (f *Forwarder) Run(ctx context.Context, l net.Listener) error {
	return Serve(ctx, l, f.Limits, func(ctx context.Context, c net.Conn) {
		n, err := f.ServeConn(ctx, c)
		if f.Ended != nil {
			f.Ended(c, n, err)
		}
	})
}

// ServeConn passes on one connection and closes it. It returns nil when both
// ends ended by themselves, else why the tunnel was not made or was cut.
func (f *Forwarder) ServeConn(ctx context.Context, client net.Conn) (Count, error) {
	defer client.Close()
	limits := f.Limits.WithDefaults()
	dialing, cancel := netop.Limited(ctx, limits.Dial, "the destination")
	defer cancel()
	server, err := f.Dial(dialing)
	if err != nil {
		return Count{}, fmt.Errorf("forward: %w", err)
	}
	if f.Header != NoHeader {
		h := proxyproto.HeaderProxyFromAddrs(byte(f.Header), client.RemoteAddr(), client.LocalAddr())
		err := Within(dialing, server, "PROXY header", func() error {
			_, err := h.WriteTo(server)
			return err
		})
		if err != nil {
			server.Close()
			return Count{}, err
		}
	}
	return Splice(ctx, client, server, limits)
}
