package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"postern/guard"
	"postern/internal/callout"
	"postern/internal/identity"
	"postern/internal/machine"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/mail"
)

// sockets are what is bound. They outlive a generation: whoever serves takes
// a copy, so that no client is turned away while a reload replaces the other.
type sockets struct {
	bound map[socketKey]*net.TCPListener
}

type socketKey struct {
	name string
	addr netip.AddrPort
}

// bind opens the sockets of the listeners, and keeps those that are open. On
// an error all that it opened is closed again.
func bind(listeners []Listener, old *sockets) (*sockets, error) {
	s := &sockets{bound: map[socketKey]*net.TCPListener{}}
	var opened []*net.TCPListener
	var errs []error
	for _, l := range listeners {
		for _, a := range l.Addrs {
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
	what := fmt.Sprintf("listener %q cannot have %s: %v", l.Name, a, errors.Unwrap(err))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		what = fmt.Sprintf("listener %q cannot have %s: another program holds it", l.Name, a)
		if list, err := machine.Listening(os.DirFS("/")); err == nil {
			if holder, ok := machine.Holder(list, a); ok && holder.Process != "" {
				what = fmt.Sprintf("listener %q cannot have %s: process %d (%s) holds it", l.Name, a, holder.PID, holder.Process)
			}
		}
		return problem.At(l.At, what, "stop that one, or choose another port")
	case errors.Is(err, syscall.EACCES):
		return problem.At(l.At, what, "ports below 1024 need a capability: setcap cap_net_bind_service=+ep $(command -v postern), or run it by the unit that postern init writes")
	}
	return problem.At(l.At, what, "name an address of this machine")
}

func (s *sockets) addrs(name string) []string {
	var list []string
	for key, l := range s.bound {
		if key.name == name {
			list = append(list, l.Addr().String())
		}
	}
	slices.Sort(list)
	return list
}

func (s *sockets) close() error { return s.closeExcept(nil) }

func (s *sockets) closeExcept(kept *sockets) error {
	var errs []error
	for key, l := range s.bound {
		if kept == nil || kept.bound[key] != l {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// copied returns a listener of its own on the same socket.
func copied(l *net.TCPListener) (net.Listener, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return net.FileListener(file)
}

// serving is one generation at work.
type serving struct {
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// stop lets sessions come to their end and waits for them.
func (s *serving) stop() {
	s.cancel()
	s.group.Wait()
}

// serve starts the listeners of a generation; r.mu is held.
func (r *Relay) serve(g *generation) {
	ctx, cancel := context.WithCancel(r.root)
	s := &serving{cancel: cancel}
	r.serving = s
	limits := g.settings.Guard
	login := identity.NewLogin(identity.Options{Store: r.users, Guesses: r.guesses, Pool: r.pool, ClientCAs: g.tls.clients})
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
			Intake: r.queue, NewID: queue.NewID, Login: logins{login}, Rate: r.rate, Mailboxes: asker, State: &r.guard, Limits: limits, Watch: r.note, Shared: isRoad(g),
		}
		server := g.server(l, guarded)
		for key, bound := range r.sockets.bound {
			if key.name != l.Name {
				continue
			}
			listener, err := copied(bound)
			if err != nil {
				r.complain(fmt.Errorf("listener %q: %w", l.Name, err))
				continue
			}
			if len(l.Proxy) > 0 {
				listener = guard.Proxied(listener, l.Proxy, isOwn(g))
			}
			s.group.Go(func() { r.complain(server.Run(ctx, listener)) })
		}
	}
}

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
