package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"postern/guard"
	"postern/internal/problem"
	"postern/plan"
	"postern/policy"
	"postern/probe"
)

// Audited is what a self-audit did and found: the battery of `postern check`,
// played in memory through the real engine and guard, from an address of every
// class that the policy distinguishes.
type Audited struct {
	At        time.Time     `json:"at"`
	Took      time.Duration `json:"took"`
	Listeners int           `json:"listeners"`
	Addresses int           `json:"addresses"`
	Forms     int           `json:"forms"`  // of the battery
	Played    int           `json:"played"` // forms that were decided
	Taken     int           `json:"taken"`  // messages taken for our own mailboxes
	Breaches  []Breach      `json:"breaches,omitempty"`
}

// Closed reports that nothing came through.
func (a *Audited) Closed() bool { return len(a.Breaches) == 0 }

// A Breach is a stranger's message that came through.
type Breach struct {
	Listener string      `json:"listener"`
	From     netip.Addr  `json:"from"`
	To       string      `json:"to"`
	Grant    string      `json:"grant"`
	At       problem.Pos `json:"at"`
}

// Error says the breach as a problem of the line that gave the grant.
func (b Breach) Error() string {
	return problem.At(b.At, fmt.Sprintf("self-audit: a stranger at %s sent mail to %s through listener %q (%s)", b.From, b.To, b.Listener, b.Grant),
		"this configuration would relay and is not put in force").Error()
}

// auditPorts are what the battery believes to knock at: they tell it whether
// TLS comes first.
var auditPorts = map[policy.Role]uint16{policy.MX: 25, policy.Submission: 587, policy.Submissions: 465, policy.Trusted: 2525}

// audit plays the battery against every listener from every witness.
func (g *generation) audit(ctx context.Context) (*Audited, error) {
	a := &Audited{At: time.Now(), Listeners: len(g.settings.Listeners) + len(g.settings.Gateways)}
	visits := make(chan func() (Audited, error))
	var mu sync.Mutex
	var errs []error
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for play := range visits {
				one, err := play()
				mu.Lock()
				errs = append(errs, err)
				a.Forms = max(a.Forms, one.Forms)
				a.Played += one.Played
				a.Taken += one.Taken
				a.Breaches = append(a.Breaches, one.Breaches...)
				mu.Unlock()
			}
		})
	}
	witnesses := g.witnesses()
	a.Addresses = len(witnesses)
	for _, l := range g.settings.Listeners {
		for _, from := range l.callers(witnesses) {
			if l.Role == policy.Trusted && g.policy.TrustedBy(from.addr) != "" {
				continue // no stranger: what it may send was proved
			}
			visits <- func() (Audited, error) { return g.auditFrom(ctx, l, from) }
		}
	}
	for _, w := range g.settings.Gateways {
		for _, from := range witnesses {
			visits <- func() (Audited, error) { return g.gatewayAudit(ctx, w, from) }
		}
	}
	close(visits)
	workers.Wait()
	a.Took = time.Since(a.At)
	return a, errors.Join(errs...)
}

// witnesses are those of the policy, and the mapped twins of the IPv4 ones
// that the configuration made (RFC 4291 section 2.5.5.2): a client that
// arrives on an IPv6 socket is who it is.
func (g *generation) witnesses() []netip.Addr {
	list := g.policy.Witnesses()
	for _, a := range list {
		if a.Is4() && !g.policy.ClassOf(a).At.IsZero() {
			list = append(list, netip.AddrFrom16(a.As16()))
		}
	}
	return list
}

// auditFrom plays the battery against one listener for one caller.
func (g *generation) auditFrom(ctx context.Context, l Listener, from caller) (Audited, error) {
	inbox := newInbox(g, l, from.who())
	ctx, cancel := context.WithCancel(ctx)
	wire := &memory{conns: make(chan net.Conn), done: ctx.Done()}
	var listener net.Listener = wire
	if len(l.Proxy) > 0 {
		listener = guard.Proxied(wire, l.Proxy, isOwn(g), nil)
	}
	guarded := &guard.SMTP{
		Name: g.settings.Policy.Hostname.ASCII(), Listener: l.Name, Role: l.Role, Policy: func() *policy.Policy { return g.policy },
		Intake: inbox, NewID: func() string { return "self-audit" }, Mailboxes: postmasters{}, Login: nobody{}, State: &guard.State{},
		Limits: guard.Limits{HeaderBytes: 1 << 16, HeaderLines: 1000, Hops: 50},
	}
	engine := g.server(l, guarded)
	// The limits would end the battery before the policy has spoken.
	engine.Limits.Errors, engine.Limits.Messages, engine.Limits.PerClient, engine.Limits.PerNetwork = -1, -1, -1, -1
	engine.Limits.AuthErrors, engine.Limits.Drain = -1, -1
	curves := []tls.CurveID{tls.CurveP256} // nobody listens in memory: the cheapest exchange of keys will do
	if engine.TLS != nil {
		engine.TLS = engine.TLS.Clone()
		engine.TLS.CurvePreferences = curves
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = engine.Run(ctx, listener) })
	defer serving.Wait()
	defer cancel()
	s := &stranger{inbox: inbox, probe: probe.SMTP{
		Dial: func(ctx context.Context) (net.Conn, error) { return wire.dial(ctx, l, from) },
		Addr: netip.AddrPortFrom(inside, auditPorts[l.Role]), Helo: "self-audit.invalid", Timeout: auditPatience, Curves: curves,
		// A balancer of ours that names nobody else names itself before each form;
		// the forms that claim to be another write their own header.
		Proxied: from.says == nil && slices.ContainsFunc(l.Proxy, func(p netip.Prefix) bool { return p.Contains(from.addr.Unmap()) }),
	}}
	var err error
	switch l.Role {
	case policy.MX, policy.Trusted:
		err = s.battery(ctx, probe.Plain)
	case policy.Submission:
		err = errors.Join(s.battery(ctx, probe.Plain), s.battery(ctx, probe.StartTLS))
	case policy.Submissions:
		err = s.battery(ctx, probe.Implicit)
	}
	result := inbox.result()
	result.Forms, result.Played = len(plan.Forms()), s.played
	if err == nil && s.played == 0 && len(l.Proxy) == 0 {
		err = errors.New("nobody was answered, so nothing was shown")
	}
	if err != nil {
		return result, fmt.Errorf("self-audit of listener %q from %s: %w", l.Name, from.who(), err)
	}
	return result, nil
}

// auditPatience is for one reply of an engine in the same process.
const auditPatience = 20 * time.Second

// inside is the address that the battery believes to speak to.
var inside = netip.MustParseAddr("127.0.0.1")

// memory is a listener whose clients are in this process.
type memory struct {
	conns chan net.Conn
	done  <-chan struct{}
}

func (m *memory) dial(ctx context.Context, l Listener, from caller) (net.Conn, error) {
	near, far := pipe(netip.AddrPortFrom(from.addr, 40000), netip.AddrPortFrom(inside, auditPorts[l.Role]))
	select {
	case m.conns <- far:
		if len(from.says) > 0 {
			_, _ = near.Write(from.says) // who was closed already is seen by what is read
		}
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept returns the next client.
func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// Close does nothing: the context ends it.
func (m *memory) Close() error { return nil }

// Addr returns no address of use.
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }
