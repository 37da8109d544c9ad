package guard

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"

	"postern/forward"
	"postern/policy"
	"postern/socks"
)

// SOCKS is the guarded SOCKS server of one gateway.
type SOCKS struct {
	Gateway
	visits sync.Map // *socks.Peer to *visit
}

// A visit is what is known of one client of a proxy.
type visit struct {
	identity string
	tunnel   *tunnel
}

func (s *SOCKS) visit(p *socks.Peer) *visit {
	v, _ := s.visits.LoadOrStore(p, &visit{})
	known, _ := v.(*visit)
	return known
}

// Method asks for a login where one can be given, and lets pass without one
// who is known by the address. In SOCKS 4 nobody can log in.
func (s *SOCKS) Method(_ context.Context, p *socks.Peer, offered []socks.Method) socks.Method {
	switch {
	case s.mayLogIn(p.Remote) && slices.Contains(offered, socks.UserPassword):
		return socks.UserPassword
	case s.knows(p.Remote):
		return socks.NoAuth
	}
	return socks.NoMethod
}

// Login checks user and password.
func (s *SOCKS) Login(ctx context.Context, p *socks.Peer, user, password string) bool {
	identity := s.login(ctx, p.Remote, user, password)
	s.visit(p).identity = identity
	return identity != ""
}

// Connect leads to where the policy lets this client go.
func (s *SOCKS) Connect(ctx context.Context, p *socks.Peer, to forward.Address) (net.Conn, socks.Code) {
	v := s.visit(p)
	conn, t, refusal, err := s.open(ctx, s.client(p.Remote, v.identity), to)
	v.tunnel = t
	switch {
	case refusal != nil:
		return nil, socks.NotAllowed
	case errors.Is(err, errElsewhere), errors.Is(err, errLimit), errors.Is(err, errSpent):
		return nil, socks.NotAllowed
	case errors.Is(err, errNoName):
		return nil, socks.HostUnreachable
	case err != nil:
		return nil, socks.ConnectionRefused
	}
	return conn, socks.Succeeded
}

// Ended notes the end.
func (s *SOCKS) Ended(p *socks.Peer, to forward.Address, n forward.Count, err error) {
	known, _ := s.visits.LoadAndDelete(p)
	v, _ := known.(*visit)
	if v == nil || v.tunnel == nil {
		s.note(TunnelEvent{Kind: Refused, ID: s.NewID(), Peer: p.Remote.Addr().Unmap(), Place: place(to), Cause: string(policy.NeedLogin), Why: text(err)})
		return
	}
	s.ended(v.tunnel, n, err)
}

func place(to forward.Address) string {
	if to.IsZero() {
		return ""
	}
	return to.String()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
