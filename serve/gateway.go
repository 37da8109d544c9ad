package serve

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"postern/connect"
	"postern/door"
	"postern/forward"
	"postern/guard"
	"postern/internal/attr"
	"postern/internal/identity"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/policy"
	"postern/socks"
)

// A Gateway is a way out for connections with its sockets; who may pass, and
// where to, stands in the policy.
type Gateway struct {
	Name    string
	Door    door.Door // SOCKS or Connect
	Addrs   []netip.AddrPort
	TLS     bool           // from the first octet
	Private []netip.Prefix // from where a password may come without TLS
	Limits  guard.TunnelLimits
	At      problem.Pos
}

// Ports returns all that is to be bound: listeners, and gateways and the page
// of the metrics as such.
func (s *Settings) Ports() []Listener {
	all := slices.Clone(s.Listeners)
	for _, g := range s.Gateways {
		all = append(all, Listener{Name: g.Name, Addrs: g.Addrs, At: g.At})
	}
	if s.Metrics.IsValid() {
		all = append(all, Listener{Name: MetricsSocket, Addrs: []netip.AddrPort{s.Metrics}, At: s.MetricsAt})
	}
	return all
}

// MetricsSocket names the socket of the metrics among those of listeners; the
// configuration gives this name to no other.
const MetricsSocket = "metrics"

// Called is how a person knows it.
func (l Listener) Called() string {
	if l.Name == MetricsSocket {
		return MetricsSocket
	}
	return fmt.Sprintf("listener %q", l.Name)
}

// everywhere is from where a password may come through TLS.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// gatewayLimits bound the tunnels of one gateway.
var gatewayLimits = forward.Limits{Connections: 10_000, PerClient: 500}

// tunnels serves the gateways of a generation on their sockets until ctx ends.
// Tunnels that are open then go on, as long as they would be given; they are
// cut when the relay ends.
func (r *Relay) tunnels(ctx context.Context, s *serving, g *generation, login *identity.Login) {
	for _, w := range g.settings.Gateways {
		gate := guard.Gateway{
			Name: w.Name, Policy: r.policy, Login: logins{login, r.policy}, State: &r.guard, Private: w.Private, Shared: isRoad(g), NewID: queue.NewID,
			Limits: g.settings.Guard, Resolve: lookups{r}.Addresses, Dial: dialTunnel, Open: &r.open, Watch: r.tunnel,
			Tunnels: w.Limits, Spent: r.spentNow,
		}
		if w.TLS {
			gate.Private = everywhere
		}
		limits := gatewayLimits
		limits.Connections = g.share.tunnels
		run := gatewayServer(w.Door, gate, limits)
		for _, e := range s.of(w.Name) {
			var listener net.Listener = e
			if w.TLS {
				listener = tls.NewListener(listener, g.gatewayTLS(w.Door))
			}
			s.group.Go(func() { r.left(ctx, e.String(), run(r.root, listener)) })
		}
	}
}

// gatewayTLS makes the TLS of one gateway: at the connect door the client may
// choose HTTP/2 in it.
func (g *generation) gatewayTLS(d door.Door) *tls.Config {
	config := g.tls.config(false)
	if d == door.Connect {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	return config
}

// gatewayServer returns the engine of a door with its guard.
func gatewayServer(d door.Door, gate guard.Gateway, limits forward.Limits) func(context.Context, net.Listener) error {
	if d == door.SOCKS {
		return (&socks.Server{Handler: &guard.SOCKS{Gateway: gate}, Limits: limits}).Run
	}
	return (&connect.Server{Handler: &guard.Connect{Gateway: gate}, Limits: limits, Realm: "postern"}).Run
}

func dialTunnel(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
}

// tunnel takes what a gateway did: a line of the log, the counters.
func (r *Relay) tunnel(e guard.TunnelEvent) {
	r.metrics.tunnel(e)
	r.countTunnel(e)
	if e.Kind == guard.Carried {
		return
	}
	r.complain(r.tunnelTraces.note(time.Now(), e))
	level := slog.LevelInfo
	if e.Kind == guard.Closed && e.Count == (forward.Count{}) {
		level = slog.LevelDebug
	}
	list := []slog.Attr{slog.String("event", string(e.Kind)), attr.Session(e.ID), attr.Listener(e.Gateway), attr.Peer(e.Peer)}
	if e.Identity != "" {
		list = append(list, attr.Identity(e.Identity))
	}
	if e.Place != "" {
		list = append(list, attr.Destination(e.Place))
	}
	if e.Addr.IsValid() {
		list = append(list, slog.String("addr", e.Addr.String()))
	}
	if !e.Origin.IsZero() {
		list = append(list, attr.At(e.Origin))
	}
	for _, text := range []struct{ name, value string }{{"grant", e.Reason}, {"cause", e.Cause}, {"why", e.Why}} {
		if text.value != "" {
			list = append(list, slog.String(text.name, text.value))
		}
	}
	if e.Kind == guard.Closed {
		list = append(list, slog.Int64("up", e.Count.Up), slog.Int64("down", e.Count.Down))
	}
	r.o.Log.LogAttrs(context.Background(), level, "gateway", append(list, attr.Took(e.Took.Round(time.Microsecond)))...)
}

// gatewayAudit plays the stranger at one gateway from one address: every
// version, with no login, with one that nobody has, at every kind of place. It
// dials nothing: a connection that would be made is a breach, unless the
// address is a trusted client's whom the gateway lets pass.
func (g *generation) gatewayAudit(ctx context.Context, w Gateway, from netip.Addr) (Audited, error) {
	var a Audited
	allowed := slices.ContainsFunc(g.settings.Policy.Gateways, func(p policy.Gateway) bool {
		return p.Name == w.Name && slices.ContainsFunc(p.Clients, func(c policy.Allowed) bool { return c.Client == g.policy.TrustedBy(from.Unmap()) })
	})
	if allowed {
		return a, nil // no stranger: where it may go was proved
	}
	var dialed []netip.AddrPort
	gate := guard.Gateway{
		Name: w.Name, Policy: func() *policy.Policy { return g.policy }, Login: nobody{}, State: &guard.State{}, Private: everywhere,
		NewID:   func() string { return "self-audit" },
		Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{auditedHost}, nil },
		Dial: func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
			dialed = append(dialed, to)
			return nil, net.ErrClosed
		},
	}
	places := []string{"127.0.0.1:25", "[::1]:25", "169.254.169.254:80", "203.0.113.25:25", "[2001:db8:ffff::25]:25", "mail.collector.invalid:25", "mail.collector.invalid:587", "mail.collector.invalid:443"}
	for _, p := range g.settings.Policy.Gateways {
		if p.Name == w.Name {
			for _, r := range p.To {
				places = append(places, r.String())
			}
		}
	}
	for _, place := range places {
		to, err := forward.ParseAddress(place)
		if err != nil {
			continue // every host has no place of its own; one is above
		}
		for _, play := range gatewayForms(w.Door, to) {
			near, far := pipe(netip.AddrPortFrom(from, 40000), netip.AddrPortFrom(inside, 1080))
			ctx, cancel := context.WithTimeout(ctx, auditPatience)
			served := make(chan struct{})
			go func() {
				defer close(served)
				serveOne(ctx, w.Door, gate, far)
			}()
			err := play(ctx, near)
			_ = near.Close() // the guard sees the end of it
			<-served
			cancel()
			a.Played++
			if err == nil || len(dialed) > 0 {
				a.Breaches = append(a.Breaches, Breach{Listener: w.Name, From: from, To: place, Grant: "a tunnel", At: w.At})
				dialed = nil
			}
		}
	}
	return a, nil
}

// auditedHost is what every name leads to in a self-audit.
var auditedHost = netip.MustParseAddr("203.0.113.25")

func serveOne(ctx context.Context, d door.Door, gate guard.Gateway, c net.Conn) {
	if d == door.SOCKS {
		_ = (&socks.Server{Handler: &guard.SOCKS{Gateway: gate}}).ServeConn(ctx, c) // what it did is seen by what it dialed
		return
	}
	_ = (&connect.Server{Handler: &guard.Connect{Gateway: gate}}).ServeConn(ctx, c) // as above
}

// gatewayForms are the ways in which a stranger asks for a place.
func gatewayForms(d door.Door, to forward.Address) (forms []func(context.Context, net.Conn) error) {
	if d == door.SOCKS {
		for _, r := range []socks.Request{
			{Version: 5, Command: socks.Connect, To: to},
			{Version: 5, Command: socks.Connect, To: to, User: "nobody-has-this", Password: "guess"},
			{Version: 5, Command: socks.Connect, To: to, User: "nobody-has-this", Password: "guess", Methods: []socks.Method{socks.NoAuth, socks.UserPassword}},
			{Version: 4, Command: socks.Connect, To: to, User: "root"},
		} {
			forms = append(forms, func(ctx context.Context, c net.Conn) error { _, err := r.Play(ctx, c, nil); return err })
		}
		return forms
	}
	for _, r := range []connect.Request{
		{To: to},
		{To: to, Version: connect.HTTP10},
		{To: to, Auth: connect.Auth{User: "nobody-has-this", Password: "guess"}},
		{To: to, Auth: connect.Auth{Token: "guess"}},
		{To: to, Version: connect.HTTP2},
		{To: to, Version: connect.HTTP2, Auth: connect.Auth{User: "nobody-has-this", Password: "guess"}},
	} {
		forms = append(forms, func(ctx context.Context, c net.Conn) error { _, _, err := r.Connect(ctx, c, nil); return err })
	}
	return forms
}
