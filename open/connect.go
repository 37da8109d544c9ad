package open

import (
	"context"
	"net"
	"net/http"
	"slices"

	"postern/connect"
	"postern/forward"
)

// Connect is a careless web proxy: it leads everybody wherever Dial leads. Its
// fields must not change once it runs.
type Connect struct {
	Dial     Dial
	Ports    []uint16          // CONNECT leads to these alone; none: to all
	Absolute bool              // serves requests for absolute URIs, to any port
	Only     bool              // ... and no CONNECT
	AnyLogin bool              // wants a user and a password, and takes any
	Users    map[string]string // ... and takes these with their passwords
	Streams  bool              // leads on over HTTP/2 alone: its rules were written for HTTP/1
	Limits   forward.Limits
}

// Run serves the connections of l until ctx ends.
func (s Connect) Run(ctx context.Context, l net.Listener) error { return s.server().Run(ctx, l) }

// ServeConn serves one connection.
func (s Connect) ServeConn(ctx context.Context, c net.Conn) error {
	return s.server().ServeConn(ctx, c)
}

func (s Connect) server() *connect.Server {
	return &connect.Server{Handler: s, Limits: s.Limits, Absolute: s.Absolute, Realm: "anybody"}
}

// Connect leads wherever Dial leads.
func (s Connect) Connect(ctx context.Context, p *connect.Peer, r connect.Request) (net.Conn, *connect.Refusal) {
	tunnel := p.Method == http.MethodConnect
	switch {
	case s.AnyLogin && r.Auth.IsZero():
		return nil, &connect.Refusal{Status: http.StatusProxyAuthRequired, Text: "any user, any password"}
	case len(s.Users) > 0 && (s.Users[r.Auth.User] == "" || s.Users[r.Auth.User] != r.Auth.Password):
		return nil, &connect.Refusal{Status: http.StatusProxyAuthRequired, Text: "wrong user or password"}
	case s.Streams && r.Version != connect.HTTP2:
		return nil, &connect.Refusal{Status: http.StatusForbidden, Text: "strangers are not served"}
	case tunnel && s.Only:
		return nil, &connect.Refusal{Status: http.StatusMethodNotAllowed, Text: "no tunnels here"}
	case tunnel && len(s.Ports) > 0 && !slices.Contains(s.Ports, r.To.Port()):
		return nil, &connect.Refusal{Status: http.StatusForbidden, Text: "not to this port"}
	}
	c, err := s.Dial(ctx, r.To)
	if err != nil {
		return nil, connect.RefusalOf(err)
	}
	return c, nil
}

// Ended is told, and cares as little as the rest.
func (s Connect) Ended(*connect.Peer, connect.Request, forward.Count, error) {}
