package guard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"postern/connect"
	"postern/forward"
	"postern/policy"
)

// Connect is the guarded HTTP proxy of one gateway. It makes tunnels alone: an
// absolute URI is not served.
type Connect struct {
	Gateway
	visits sync.Map // *connect.Peer to *visit
}

// Connect leads to where the policy lets this client go.
func (s *Connect) Connect(ctx context.Context, p *connect.Peer, r connect.Request) (net.Conn, *connect.Refusal) {
	v := &visit{}
	s.visits.Store(p, v)
	if r.Auth.User != "" {
		if v.identity = s.login(ctx, p.Remote, r.Auth.User, r.Auth.Password); v.identity == "" {
			return nil, wantLogin
		}
	}
	conn, t, refusal, err := s.open(ctx, s.client(p.Remote, v.identity), r.To)
	v.tunnel = t
	switch {
	case refusal != nil && refusal.Cause == policy.NeedLogin && v.identity == "" && s.mayLogIn(p.Remote):
		return nil, wantLogin
	case refusal != nil:
		return nil, &connect.Refusal{Status: http.StatusForbidden, Text: refusal.Reply().Text() + " [" + t.id + "]"}
	case errors.Is(err, errElsewhere):
		return nil, &connect.Refusal{Status: http.StatusForbidden, Text: "That name leads inside this network [" + t.id + "]"}
	case errors.Is(err, errLimit):
		return nil, &connect.Refusal{Status: http.StatusTooManyRequests, Text: "Too many tunnels; close some, or try later [" + t.id + "]"}
	case errors.Is(err, errSpent):
		return nil, &connect.Refusal{Status: http.StatusForbidden, Text: "Your budget is used up; ask your administrator [" + t.id + "]"}
	case err != nil:
		return nil, &connect.Refusal{Status: http.StatusBadGateway, Text: "Nobody answers there [" + t.id + "]"}
	}
	return conn, nil
}

var wantLogin = &connect.Refusal{Status: http.StatusProxyAuthRequired, Text: "Log in first: this proxy is for our users"}

// Ended notes the end.
func (s *Connect) Ended(p *connect.Peer, r connect.Request, n forward.Count, err error) {
	known, _ := s.visits.LoadAndDelete(p)
	v, _ := known.(*visit)
	if v == nil || v.tunnel == nil {
		cause := string(policy.NeedLogin)
		if errors.Is(err, connect.ErrPlaces) {
			cause = CauseRate
		}
		s.note(TunnelEvent{Kind: Refused, ID: s.NewID(), Peer: p.Remote.Addr().Unmap(), Place: place(r.To), Cause: cause, Why: text(err)})
		return
	}
	s.ended(v.tunnel, n, err)
}
