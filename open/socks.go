package open

import (
	"context"
	"net"
	"slices"

	"postern/forward"
	"postern/socks"
)

// SOCKS is a careless SOCKS server: it leads everybody wherever Dial leads.
// Its fields must not change once it runs.
type SOCKS struct {
	Dial     Dial
	Version  int               // 4 or 5: speaks that alone; 0: both
	AnyLogin bool              // wants a user and a password, and takes any; SOCKS 4 is refused then
	Users    map[string]string // ... and takes these with their passwords
	Limits   forward.Limits
}

// Run serves the connections of l until ctx ends.
func (s SOCKS) Run(ctx context.Context, l net.Listener) error { return s.server().Run(ctx, l) }

// ServeConn serves one connection.
func (s SOCKS) ServeConn(ctx context.Context, c net.Conn) error { return s.server().ServeConn(ctx, c) }

func (s SOCKS) server() *socks.Server {
	return &socks.Server{Handler: s, Limits: s.Limits, Only: s.Version}
}

// Method asks for a login where one is wanted.
func (s SOCKS) Method(_ context.Context, _ *socks.Peer, offered []socks.Method) socks.Method {
	switch {
	case !s.AnyLogin && len(s.Users) == 0:
		return socks.NoAuth
	case slices.Contains(offered, socks.UserPassword):
		return socks.UserPassword
	}
	return socks.NoMethod
}

// Login takes whatever comes, or the users that there are.
func (s SOCKS) Login(_ context.Context, _ *socks.Peer, user, password string) bool {
	return s.AnyLogin || s.Users[user] != "" && s.Users[user] == password
}

// Connect leads wherever Dial leads.
func (s SOCKS) Connect(ctx context.Context, _ *socks.Peer, to forward.Address) (net.Conn, socks.Code) {
	c, err := s.Dial(ctx, to)
	return c, socks.CodeOf(err)
}

// Ended is told, and cares as little as the rest.
func (s SOCKS) Ended(*socks.Peer, forward.Address, forward.Count, error) {}
