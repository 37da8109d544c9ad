package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"postern/guard"
	"postern/internal/callout"
	"postern/internal/identity"
	"postern/internal/machine"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/systemd"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// Sockets are what is bound. They outlive a generation: whoever serves takes
// a copy, so that no client is turned away while a reload replaces the other.
type Sockets struct {
	bound  map[socketKey]*net.TCPListener
	passed []systemd.Socket // held by the service manager; they are always in use
}

type socketKey struct {
	name string
	addr netip.AddrPort
}

// Bind opens the sockets of listeners, as far as they were not passed. It is
// for those who need a right that is given up before the relay is made.
func Bind(listeners []Listener, passed []systemd.Socket) (*Sockets, error) {
	return bind(listeners, &Sockets{passed: passed})
}

// bind opens the sockets of the listeners, and keeps those that are open or
// were passed. On an error all that it opened is closed again.
func bind(listeners []Listener, old *Sockets) (*Sockets, error) {
	s := &Sockets{bound: map[socketKey]*net.TCPListener{}}
	if old != nil {
		s.passed = old.passed
	}
	covered, errs := s.take(listeners)
	var opened []*net.TCPListener
	for _, l := range listeners {
		for _, a := range l.Addrs {
			if covered(l, a) {
				continue
			}
			key := socketKey{l.Name, a}
			if old != nil && old.bound[key] != nil {
				s.bound[key] = old.bound[key]
				continue
			}
			bound, err := listen(l, a)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			s.bound[key] = bound
			opened = append(opened, bound)
		}
	}
	if len(errs) == 0 {
		return s, nil
	}
	for _, l := range opened {
		errs = append(errs, l.Close())
	}
	return nil, errors.Join(errs...)
}

// take gives each passed socket to its listener: the one of its name, else the
// one of its address. It returns which addresses need no socket any more: a
// listener that is passed by name listens where the unit says, and nowhere
// else; a socket of both families stands for two addresses.
func (s *Sockets) take(listeners []Listener) (covered func(Listener, netip.AddrPort) bool, errs []error) {
	named := map[string]bool{}
	at := map[socketKey]bool{}
	for _, p := range s.passed {
		if slices.ContainsFunc(listeners, func(l Listener) bool { return l.Name == p.Name }) {
			named[p.Name] = true
			s.bound[socketKey{p.Name, p.Addr()}] = p.Listener
			continue
		}
		stands := []netip.AddrPort{p.Addr()}
		if p.Both {
			stands = append(stands, netip.AddrPortFrom(netip.IPv4Unspecified(), p.Addr().Port()))
		}
		var whose []string
		for _, l := range listeners {
			for _, a := range l.Addrs {
				if slices.Contains(stands, a) {
					whose = append(whose, l.Name)
					at[socketKey{l.Name, a}] = true
					s.bound[socketKey{l.Name, p.Addr()}] = p.Listener
				}
			}
		}
		switch whose = slices.Compact(whose); {
		case len(whose) == 0:
			errs = append(errs, noListener(listeners, p))
		case len(whose) > 1:
			errs = append(errs, problem.At(problem.Pos{}, fmt.Sprintf("systemd passes the socket %s (%q) of both families, and IPv4 and IPv6 are of two listeners: %s", p.Addr(), p.Name, strings.Join(whose, ", ")),
				"write BindIPv6Only=ipv6-only in the socket unit, and a ListenStream= for each"))
		}
	}
	return func(l Listener, a netip.AddrPort) bool { return named[l.Name] || at[socketKey{l.Name, a}] }, errs
}

// noListener refuses a socket that the manager holds and nobody serves: its
// clients would wait for ever.
func noListener(listeners []Listener, p systemd.Socket) error {
	var names []string
	var where problem.Pos
	for _, l := range listeners {
		names = append(names, l.Name)
		where = l.At
	}
	return problem.At(problem.Pos{File: where.File}, fmt.Sprintf("systemd passes the socket %s (%q), and no listener has that address or name", p.Addr(), p.Name),
		"give a listener that address and port, or write FileDescriptorName= with a listener's name in the socket unit (there are "+strings.Join(names, ", ")+"), or take the socket out of it")
}

func listen(l Listener, a netip.AddrPort) (*net.TCPListener, error) {
	network := "tcp6"
	if a.Addr().Is4() {
		network = "tcp4"
	}
	bound, err := (&net.ListenConfig{}).Listen(context.Background(), network, a.String())
	if err != nil {
		return nil, notBound(l, a, err)
	}
	tcp, ok := bound.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: no TCP socket", a), bound.Close())
	}
	return tcp, nil
}

// notBound says why a port could not be had and what helps.
func notBound(l Listener, a netip.AddrPort, err error) error {
	what := fmt.Sprintf("%s cannot have %s: %v", l.Called(), a, errors.Unwrap(err))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		what = fmt.Sprintf("%s cannot have %s: another program holds it", l.Called(), a)
		if list, err := machine.Listening(os.DirFS("/")); err == nil {
			if holder, ok := machine.Holder(list, a); ok && holder.Process != "" {
				what = fmt.Sprintf("%s cannot have %s: process %d (%s) holds it", l.Called(), a, holder.PID, holder.Process)
			}
		}
		return problem.At(l.At, what, "stop that one, or choose another port")
	case errors.Is(err, syscall.EACCES):
		return problem.At(l.At, what, "ports below 1024 need a capability: setcap cap_net_bind_service=+ep $(command -v postern), or run it by the unit that postern init writes")
	}
	return problem.At(l.At, what, "name an address of this machine")
}

func (s *Sockets) addrs(name string) []string {
	var list []string
	for key, l := range s.bound {
		if key.name == name {
			list = append(list, l.Addr().String())
		}
	}
	slices.Sort(list)
	return list
}

func (s *Sockets) close() error { return s.closeExcept(nil) }

func (s *Sockets) closeExcept(kept *Sockets) error {
	var errs []error
	for key, l := range s.bound {
		if kept == nil || kept.bound[key] != l {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// copied returns a listener of its own on the same socket.
func copied(l *net.TCPListener) (*net.TCPListener, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	copied, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	tcp, ok := copied.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: no TCP socket", l.Addr()), copied.Close())
	}
	return tcp, nil
}

// serving is one generation at work.
type serving struct {
	cancel  context.CancelFunc
	ears    []*ear
	servers map[string]*served // by listener
	group   sync.WaitGroup
}

// served is one listener at work.
type served struct {
	*smtp.Server
	as    Listener
	leave context.CancelFunc // ends its sessions
}

// of are the ears of a listener or gateway.
func (s *serving) of(name string) (list []*ear) {
	for _, e := range s.ears {
		if e.name == name {
			list = append(list, e)
		}
	}
	return list
}

// retire makes room for the next generation. Sessions go on under the rules
// that they began with, which is safe: what may pass is decided by the policy
// in force at each message. Those of a listener that is there no more, or is
// there for others now, are told to come again.
func (s *serving) retire(next *generation) {
	for _, l := range next.settings.Listeners {
		if old := s.servers[l.Name]; old != nil && old.as.Role == l.Role && slices.Equal(old.as.Proxy, l.Proxy) {
			old.Retire()
		}
	}
	s.deafen()
	for _, old := range s.servers {
		if !old.Retired() {
			old.leave()
		}
	}
}

// end waits for sessions that go on.
func (s *serving) end() {
	s.group.Wait()
	for _, old := range s.servers {
		old.leave()
	}
}

// deafen lets no more clients in: who connects from now on waits for whoever
// listens next, and is not told to come again.
func (s *serving) deafen() {
	s.cancel()
	for _, e := range s.ears {
		_ = e.Close() // a copy; the socket stays
	}
}

// stop lets sessions come to their end and waits for them.
func (s *serving) stop() {
	s.cancel()
	s.group.Wait()
}

// listen makes the ears of a generation. When one cannot be made the
// generation is none: its port would be open and nobody behind it.
func (r *Relay) listen(bound *Sockets) (*serving, error) {
	s := &serving{cancel: func() {}}
	for key, socket := range bound.bound {
		e, err := newEar(key.name, socket, &r.knocks, r.short)
		if err != nil {
			s.deafen()
			return nil, fmt.Errorf("%w; what is in force stays", err)
		}
		s.ears = append(s.ears, e)
	}
	return s, nil
}

// serve starts the listeners of a generation; r.mu is held.
func (r *Relay) serve(g *generation, s *serving) {
	ctx, cancel := context.WithCancel(r.root)
	s.cancel = cancel
	s.servers = map[string]*served{}
	r.serving = s
	r.ears.Store(&s.ears)
	limits := g.settings.Guard
	login := identity.NewLogin(identity.Options{Store: r.users, Guesses: r.guesses, Pool: r.pool, ClientCAs: g.tls.clients, Mechanisms: g.settings.Methods})
	asker := callout.New(g.settings.Policy.Hostname.ASCII(), func(d mail.Domain) (callout.Hop, error) {
		hop, err := g.hop(d)
		if hop.Ask != nil {
			hop = *hop.Ask
		}
		return callout.Hop{LMTP: hop.LMTP, Network: hop.Network, Address: hop.Address}, err
	})
	for _, l := range g.settings.Listeners {
		guarded := &guard.SMTP{
			Name: g.settings.Policy.Hostname.ASCII(), Listener: l.Name, Role: l.Role,
			Policy: r.policy,
			Intake: r.queue, NewID: queue.NewID, Login: logins{login, r.policy}, Rate: r.rate, Mailboxes: asker, State: &r.guard, Limits: limits, Watch: r.note, Hold: r.withhold, Shared: isRoad(g),
		}
		server := g.server(l, guarded)
		server.Clients, server.Known = r.placesOf(l.Name), r.known(l.Role)
		sessions, leave := context.WithCancel(r.root)
		s.servers[l.Name] = &served{server, l, leave}
		for _, e := range s.of(l.Name) {
			var listener net.Listener = e
			if len(l.Proxy) > 0 {
				listener = guard.Proxied(listener, l.Proxy, isOwn(g), func(a netip.Addr) { r.noHeader(l.Name, a) })
			}
			s.group.Go(func() { r.left(ctx, e.String(), server.Run(sessions, listener)) })
		}
	}
	for _, e := range s.of(MetricsSocket) {
		s.group.Go(func() { r.left(ctx, "metrics", r.serveHTTP(ctx, e, r.metricsPages())) })
	}
	r.tunnels(ctx, s, g, login)
}

// placesOf are those of one listener, whatever generation serves it; r.mu is
// held.
func (r *Relay) placesOf(listener string) *smtp.Census {
	if r.places == nil {
		r.places = map[string]*smtp.Census{}
	}
	if r.places[listener] == nil {
		r.places[listener] = &smtp.Census{}
	}
	return r.places[listener]
}

// known returns who is let in at a listener of the role where places are short.
func (r *Relay) known(role policy.Role) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		a = a.Unmap().WithZone("")
		return r.guard.Known(a, role == policy.MX) || r.policy().TrustedBy(a) != ""
	}
}

// left is told how a listener ended. One that ends before it was told to
// ends the relay: a port that is open and leads to nobody is worse than none.
func (r *Relay) left(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errEnded
	}
	r.fail(fmt.Errorf("%s: %w", name, err))
}

var errEnded = errors.New("it has ended, and nobody told it to")

// isOwn reports addresses of this machine, which no PROXY header may name.
func isOwn(g *generation) func(netip.Addr) bool {
	around := g.policy.Source().Around
	own := map[netip.Addr]bool{}
	for _, a := range slices.Concat(around.Own, around.Bridges) {
		own[a.WithZone("")] = true
	}
	return func(a netip.Addr) bool { return own[a] }
}

// isRoad reports addresses behind which many clients may be: a gateway, a bridge.
func isRoad(g *generation) func(netip.Addr) bool {
	around := g.policy.Source().Around
	return func(a netip.Addr) bool {
		return slices.Contains(around.Gateways, a) || slices.Contains(around.Bridges, a)
	}
}
