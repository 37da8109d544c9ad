package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/forward"
	"postern/internal/problem"
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
	Tunnels TunnelLimits
	NewID   func() string
	Open    *Tunnels                // those of all gateways; nil: they are not decided again
	Spent   func(who string) string // why nothing more of a user or trusted client may pass, or ""; nil: nobody asks
	Watch   func(TunnelEvent)       // nil: nobody watches
}

// TunnelLimits bound what one user or trusted client can do at a gateway. A
// zero limit is none.
type TunnelLimits struct {
	AtOnce int
	New    Rate
}

// DefaultTunnelLimits let a person's browser and mail program work, and a
// stolen password not do the work of thousands.
var DefaultTunnelLimits = TunnelLimits{AtOnce: 200, New: Rate{600, time.Minute}}

// Tunnels are those that are open. The zero value is ready, and safe for
// concurrent use.
type Tunnels struct {
	mu    sync.Mutex
	open  map[*tunnel]net.Conn
	taken map[string]int // by whom: how many are open or being made
}

// take takes a place for one more of who; false when there is none.
func (o *Tunnels) take(who string, most int) bool {
	if o == nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if most > 0 && o.taken[who] >= most {
		return false
	}
	if o.taken == nil {
		o.taken = map[string]int{}
	}
	o.taken[who]++
	return true
}

func (o *Tunnels) giveBack(who string) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken[who]--; o.taken[who] <= 0 {
		delete(o.taken, who)
	}
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

// leave returns what of its octets nobody was told of yet.
func (o *Tunnels) leave(t *tunnel, all forward.Count) (rest forward.Count) {
	if o == nil {
		return all
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, t)
	return t.since(all)
}

// since returns what has passed since it was last asked; the caller holds the
// lock.
func (t *tunnel) since(now forward.Count) (rest forward.Count) {
	rest = forward.Count{Up: max(0, now.Up-t.told.Up), Down: max(0, now.Down-t.told.Down)}
	t.told = now
	return rest
}

// Carried tells what each open tunnel has carried since it last was asked: one
// that lasts a day is counted all day long.
func (o *Tunnels) Carried(tell func(TunnelEvent)) {
	o.mu.Lock()
	var list []TunnelEvent
	for t := range o.open {
		e := t.event(Carried)
		if e.Fresh = t.since(t.flow.Count()); e.Fresh != (forward.Count{}) {
			e.Count = t.told
			list = append(list, e)
		}
	}
	o.mu.Unlock()
	for _, e := range list {
		tell(e)
	}
}

// Now returns what an open tunnel has carried until now, by its id; false if
// none has it.
func (o *Tunnels) Now(id string) (forward.Count, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for t := range o.open {
		if t.id == id {
			return t.flow.Count(), true
		}
	}
	return forward.Count{}, false
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
	Kind     Kind // Refused, Accepted when the tunnel is open, Carried while it is, Closed when it ended, LoginFailed
	ID       string
	Gateway  string
	Peer     netip.Addr
	Identity string // the user or the trusted client
	Reason   string // of the passage
	Origin   problem.Pos
	Place    string
	Addr     netip.AddrPort // where it leads
	Cause    string         // of a refusal
	Why      string
	Count    forward.Count
	Fresh    forward.Count // of Count, what no event before has told of
	Took     time.Duration
}

// A tunnel is one request on its way.
type tunnel struct {
	id     string
	began  time.Time
	client policy.Client
	pass   policy.Passage
	addr   netip.AddrPort
	gate   string
	given  bool // its client was told so
	flow   forward.Flow
	told   forward.Count // under the lock of Tunnels
}

// who is whose tunnel it is to be, as far as that is known before it is
// decided; "": a stranger's.
func (g *Gateway) who(c policy.Client) string {
	if c.Identity != "" {
		return c.Identity
	}
	return g.Policy().TrustedBy(c.Addr)
}

// Why a request leads nowhere, beside the policy's causes.
var (
	errElsewhere   = errors.New("its name leads inside")
	errUnreachable = errors.New("nobody answers there")
	errNoName      = errors.New("its name has no address")
	errLimit       = errors.New("its user has too many tunnels, or opens them too fast")
	errSpent       = errors.New("the budget is used up")
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
	t := &tunnel{id: g.NewID(), began: time.Now(), client: c, gate: g.Name}
	if why := g.tooFast(c); why != "" {
		g.refused(t, to.String(), CauseRate, why)
		return nil, t, nil, errLimit
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
	if why := g.spent(pass.Who()); why != "" {
		g.refused(t, place.String(), CauseBudget, why)
		return nil, t, nil, errSpent
	}
	if !g.Open.take(pass.Who(), g.Tunnels.AtOnce) {
		g.refused(t, place.String(), CauseRate, fmt.Sprintf("%s has %d tunnels already", pass.Who(), g.Tunnels.AtOnce))
		return nil, t, nil, errLimit
	}
	conn, err := g.connect(ctx, t, pass)
	if err != nil {
		g.Open.giveBack(pass.Who())
		g.refused(t, place.String(), CauseWay, err.Error())
		return nil, t, nil, err
	}
	// Whoever decided again on what is open did not see this one yet.
	if _, refusal = g.Policy().Pass(g.client(netip.AddrPortFrom(c.Addr, 0), c.Identity), place); refusal != nil {
		_ = conn.Close() // nothing was said over it
		g.Open.leave(t, forward.Count{})
		g.Open.giveBack(pass.Who())
		g.refused(t, place.String(), string(refusal.Cause), refusal.Rule)
		return nil, t, refusal, nil
	}
	t.given = true
	g.note(t.event(Accepted))
	return conn, t, nil, nil
}

// tooFast says that who asks opens more than they may: a user or trusted
// client by their own rate, who is not known by their address.
func (g *Gateway) tooFast(c policy.Client) string {
	now := time.Now()
	if who := g.who(c); who != "" {
		if !g.State.tunnels.Allow(who, 1, g.Tunnels.New, now) {
			return fmt.Sprintf("%s opens more than %s", who, g.Tunnels.New)
		}
		return ""
	}
	if c.Addr.IsValid() && !g.State.connections.Allow(prefixOf(c.Addr), 1, g.Limits.Connections, now) {
		return fmt.Sprintf("its address asks more than %s", g.Limits.Connections)
	}
	return ""
}

func (g *Gateway) spent(who string) string {
	if g.Spent == nil {
		return ""
	}
	return g.Spent(who)
}

// event tells of a tunnel that was given.
func (t *tunnel) event(k Kind) TunnelEvent {
	return TunnelEvent{
		Kind: k, ID: t.id, Gateway: t.gate, Peer: t.client.Addr, Identity: t.pass.Who(), Reason: t.pass.Reason().String(), Origin: t.pass.Origin(),
		Place: t.pass.To().String(), Addr: t.addr, Took: time.Since(t.began),
	}
}

// CauseWay is a passage that was given and led nowhere.
const CauseWay = "no_way"

// connect looks up a place and connects to the first of its addresses that
// answers and that the passage does not close.
func (g *Gateway) connect(ctx context.Context, t *tunnel, pass policy.Passage) (net.Conn, error) {
	place := pass.To()
	list := []netip.Addr{place.Addr}
	if !place.Addr.IsValid() {
		var err error
		if list, err = g.Resolve(ctx, place.Name); len(list) == 0 {
			return nil, errors.Join(errNoName, err)
		}
	}
	failed := errElsewhere
	for _, a := range list {
		if pass.Closes(a) != "" {
			continue
		}
		t.addr = netip.AddrPortFrom(a.Unmap(), place.Port)
		conn, err := g.Dial(ctx, t.addr)
		if err == nil {
			t.pass = pass
			g.Open.enter(t, conn)
			return forward.Counted(conn, &t.flow), nil
		}
		failed = errors.Join(errUnreachable, err)
	}
	return nil, failed
}

func (g *Gateway) refused(t *tunnel, place, cause, why string) {
	g.note(TunnelEvent{Kind: Refused, ID: t.id, Peer: t.client.Addr, Identity: g.who(t.client), Place: place, Cause: cause, Why: why, Took: time.Since(t.began)})
}

// ended notes the end of a tunnel that was open.
func (g *Gateway) ended(t *tunnel, n forward.Count, err error) {
	if t == nil || !t.given {
		return
	}
	e := t.event(Closed)
	e.Count, e.Fresh = n, g.Open.leave(t, n)
	g.Open.giveBack(t.pass.Who())
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
