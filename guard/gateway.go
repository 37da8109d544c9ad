package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/forward"
	"postern/policy"
)

// A Gateway is the guarded way out for connections: what SOCKS and CONNECT
// share. Its fields must not change once it runs.
type Gateway struct {
	Name    string                // as the policy knows it
	Policy  func() *policy.Policy // the one in force
	Login   Login                 // nil: nobody can log in
	State   *State                // what listeners share
	Private []netip.Prefix        // from where a password may come; all addresses when TLS is below
	Shared  func(netip.Addr) bool // an address that many clients seem to come from; nil: none is
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Limits  Limits
	NewID   func() string
	Open    *Tunnels          // those of all gateways; nil: they are not decided again
	Watch   func(TunnelEvent) // nil: nobody watches
}

// Tunnels are those that are open. The zero value is ready, and safe for
// concurrent use.
type Tunnels struct {
	mu   sync.Mutex
	open map[*tunnel]net.Conn
}

func (o *Tunnels) enter(t *tunnel, c net.Conn) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[*tunnel]net.Conn{}
	}
	o.open[t] = c
}

func (o *Tunnels) leave(t *tunnel) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, t)
}

// Recheck decides again on each, and closes those whose passage is no longer
// given: a user who was disabled is led nowhere any more. It returns how many.
func (o *Tunnels) Recheck(p *policy.Policy, w *Witness) (closed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for t, conn := range o.open {
		c := t.client
		name := p.TrustedBy(c.Addr)
		c.Suspended = name != "" && w.Suspended(name) != ""
		if _, refusal := p.Pass(c, t.pass.To()); refusal != nil {
			_ = conn.Close() // its end is noted where it is served
			closed++
		}
	}
	return closed
}

// A TunnelEvent is one request of a gateway, from its beginning to its end.
type TunnelEvent struct {
	Kind     Kind // Refused, Accepted when the tunnel is open, Closed when it ended, LoginFailed
	ID       string
	Gateway  string
	Peer     netip.Addr
	Identity string // the user or the trusted client
	Reason   string // of the passage
	Place    string
	Addr     netip.AddrPort // where it leads
	Cause    string         // of a refusal
	Why      string
	Count    forward.Count
	Took     time.Duration
}

// A tunnel is one request on its way.
type tunnel struct {
	id     string
	began  time.Time
	client policy.Client
	pass   policy.Passage
	addr   netip.AddrPort
}

// Why a request leads nowhere, beside the policy's causes.
var (
	errElsewhere   = errors.New("its name leads inside")
	errUnreachable = errors.New("nobody answers there")
	errNoName      = errors.New("its name has no address")
)

// client says who asks, as the policy wants to know it.
func (g *Gateway) client(peer netip.AddrPort, identity string) policy.Client {
	c := policy.Client{Listener: g.Name, Addr: peer.Addr().Unmap().WithZone(""), Identity: identity}
	if name := g.Policy().TrustedBy(c.Addr); name != "" {
		c.Suspended = g.State.Witness.Suspended(name) != ""
	}
	return c
}

// knows reports whether somebody at that address may pass without a login.
func (g *Gateway) knows(peer netip.AddrPort) bool {
	p := g.Policy()
	return slices.ContainsFunc(p.Source().Gateways, func(s policy.Gateway) bool {
		return s.Name == g.Name && slices.ContainsFunc(s.Clients, func(a policy.Allowed) bool { return a.Client == p.TrustedBy(peer.Addr().Unmap()) })
	})
}

// mayLogIn reports whether a password from there may come at all.
func (g *Gateway) mayLogIn(peer netip.AddrPort) bool {
	if g.Login == nil || !slices.ContainsFunc(g.Policy().Source().Gateways, func(s policy.Gateway) bool { return s.Name == g.Name && s.Login }) {
		return false
	}
	return slices.ContainsFunc(g.Private, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap().WithZone("")) })
}

// login checks a user and a password, and lets who guesses wait.
func (g *Gateway) login(ctx context.Context, peer netip.AddrPort, user, password string) (identity string) {
	if !g.mayLogIn(peer) || strings.ContainsRune(user+password, 0) {
		return ""
	}
	addr := peer.Addr().Unmap().WithZone("")
	c := LoginClient{Addr: addr, Private: true, Shared: g.Shared != nil && g.Shared(addr)}
	r := g.Login.Login(ctx, c, "PLAIN", []byte("\x00"+user+"\x00"+password), func([]byte) ([]byte, error) { return nil, errors.New("all was said") })
	if r.Reply.Code == 235 && r.Identity != "" {
		return r.Identity
	}
	g.note(TunnelEvent{Kind: LoginFailed, Peer: addr, Why: r.Why})
	wait(ctx, r.Wait)
	return ""
}

// open decides a request and makes its connection. The refusal is nil where
// the policy gave the passage and the way failed, or was found to lead inside.
func (g *Gateway) open(ctx context.Context, c policy.Client, to forward.Address) (net.Conn, *tunnel, *policy.Refusal, error) {
	t := &tunnel{id: g.NewID(), began: time.Now(), client: c}
	if c.Addr.IsValid() && g.State.connections.Take(prefixOf(c.Addr), 1, g.Limits.Connections, time.Now()) > 1 {
		g.refused(t, to.String(), CauseRate, "")
		return nil, t, nil, errUnreachable
	}
	place, err := policy.NewPlace(to.Host(), to.Port())
	if err != nil {
		g.refused(t, to.String(), string(policy.NoPlace), err.Error())
		return nil, t, nil, errNoName
	}
	pass, refusal := g.Policy().Pass(c, place)
	if refusal != nil {
		g.refused(t, place.String(), string(refusal.Cause), refusal.Rule)
		return nil, t, refusal, nil
	}
	t.pass = pass
	conn, err := g.connect(ctx, t, place)
	if err != nil {
		g.refused(t, place.String(), CauseWay, err.Error())
		return nil, t, nil, err
	}
	// Whoever decided again on what is open did not see this one yet.
	if _, refusal = g.Policy().Pass(g.client(netip.AddrPortFrom(c.Addr, 0), c.Identity), place); refusal != nil {
		_ = conn.Close() // nothing was said over it
		g.refused(t, place.String(), string(refusal.Cause), refusal.Rule)
		return nil, t, refusal, nil
	}
	g.note(TunnelEvent{
		Kind: Accepted, ID: t.id, Peer: c.Addr, Identity: pass.Who(), Reason: pass.Reason().String(), Place: place.String(), Addr: t.addr, Took: time.Since(t.began),
	})
	return conn, t, nil, nil
}

// CauseWay is a passage that was given and led nowhere.
const CauseWay = "no_way"

// connect looks up a place and connects to the first of its addresses that
// answers and that the passage does not close.
func (g *Gateway) connect(ctx context.Context, t *tunnel, place policy.Place) (net.Conn, error) {
	list := []netip.Addr{place.Addr}
	if !place.Addr.IsValid() {
		var err error
		if list, err = g.Resolve(ctx, place.Name); len(list) == 0 {
			return nil, errors.Join(errNoName, err)
		}
	}
	failed := errElsewhere
	for _, a := range list {
		if t.pass.Closes(a) != "" {
			continue
		}
		t.addr = netip.AddrPortFrom(a.Unmap(), place.Port)
		conn, err := g.Dial(ctx, t.addr)
		if err == nil {
			g.Open.enter(t, conn)
			return conn, nil
		}
		failed = errors.Join(errUnreachable, err)
	}
	return nil, failed
}

func (g *Gateway) refused(t *tunnel, place, cause, why string) {
	g.note(TunnelEvent{Kind: Refused, ID: t.id, Peer: t.client.Addr, Identity: t.client.Identity, Place: place, Cause: cause, Why: why, Took: time.Since(t.began)})
}

// ended notes the end of a tunnel that was open.
func (g *Gateway) ended(t *tunnel, n forward.Count, err error) {
	if t == nil || t.pass.IsZero() {
		return
	}
	g.Open.leave(t)
	e := TunnelEvent{
		Kind: Closed, ID: t.id, Peer: t.client.Addr, Identity: t.pass.Who(), Reason: t.pass.Reason().String(), Place: t.pass.To().String(), Addr: t.addr,
		Count: n, Took: time.Since(t.began),
	}
	if err != nil {
		e.Why = err.Error()
	}
	g.note(e)
}

func (g *Gateway) note(e TunnelEvent) {
	if g.Watch == nil {
		return
	}
	e.Gateway = g.Name
	g.Watch(e)
}
