package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"postern/open"
)

// Options say where the lab stands.
type Options struct {
	Host      netip.Addr        // a loopback address; zero: 127.0.0.1
	Port      uint16            // of the first specimen, the others follow; 0: any that are free
	Collector netip.AddrPort    // a loopback address and port: where specimens hand on what they take
	Ports     map[uint16]uint16 // further ports of the collector, each for the one that it stands for
	Lookup    func(ctx context.Context, domain string) []netip.Addr
	Only      []string // names of specimens; none: all
	Handed    func(specimen string, m open.Message, err error)
}

// A Running specimen and where it listens.
type Running struct {
	Specimen
	Addr netip.AddrPort
	six  netip.AddrPort
}

// Target returns how the specimen is named to `postern check`: by its address,
// or by a name that has both families where it listens on both.
func (r Running) Target() string {
	if r.six.IsValid() {
		return net.JoinHostPort("localhost", strconv.Itoa(int(r.Addr.Port())))
	}
	return r.Addr.String()
}

// A Lab is a set of running specimens.
type Lab struct {
	Specimens []Running
	Skipped   []string // names of specimens that this machine cannot show, and why

	listeners []func(context.Context) error
	close     []func() error
	deliver   sync.WaitGroup
}

// New makes the specimens and their listeners; Run serves them, Close lets
// go of the listeners of a lab that was never run.
func New(o Options) (*Lab, error) {
	if !o.Host.IsValid() {
		o.Host = netip.MustParseAddr("127.0.0.1")
	}
	if !o.Host.IsLoopback() {
		return nil, fmt.Errorf("%s is not a loopback address; the lab listens nowhere else", o.Host)
	}
	chosen, err := choose(o.Only)
	if err != nil {
		return nil, err
	}
	l := &Lab{}
	world := World{Lookup: o.Lookup, Collector: o.Collector, Ports: o.Ports, behind: l.behind}
	if world.Lookup == nil {
		world.Lookup = func(context.Context, string) []netip.Addr { return nil }
	}
	for i, s := range chosen {
		port := o.Port
		if port != 0 {
			port += uint16(i)
		}
		if err := l.add(s, world, o, port); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

func choose(only []string) ([]Specimen, error) {
	all := Specimens()
	if len(only) == 0 {
		return all, nil
	}
	var chosen []Specimen
	for _, name := range only {
		found := false
		for _, s := range all {
			if s.Name == name {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no specimen is called %q; `postern lab --list` shows all", name)
		}
	}
	return chosen, nil
}

func (l *Lab) add(s Specimen, w World, o Options, port uint16) error {
	host := o.Host
	if s.Host.IsValid() {
		host = s.Host
	}
	listener, err := net.Listen("tcp", netip.AddrPortFrom(host, port).String())
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		l.Skipped = append(l.Skipped, fmt.Sprintf("%s: this machine has no address %s (%v)", s.Name, host, err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("specimen %s: %w; choose another place with --port", s.Name, err)
	}
	at, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return fmt.Errorf("specimen %s: %w", s.Name, err)
	}
	r := Running{Specimen: s, Addr: at}
	listeners := []net.Listener{listener}
	l.close = append(l.close, listener.Close)
	if s.IPv6 {
		r.six = netip.AddrPortFrom(netip.IPv6Loopback(), r.Addr.Port())
		second, err := net.Listen("tcp", r.six.String())
		if err != nil {
			l.Skipped = append(l.Skipped, fmt.Sprintf("%s: this machine has no IPv6 on loopback (%v)", s.Name, err))
			return nil
		}
		l.close = append(l.close, second.Close)
		listeners = append(listeners, second)
	}
	w.sink = func(host string, from netip.Addr) open.Sink {
		return &sink{name: host, from: from, collector: o.Collector, running: &l.deliver, handed: func(m open.Message, err error) {
			if o.Handed != nil {
				o.Handed(s.Name, m, err)
			}
		}}
	}
	gate, err := s.gate(w)
	if err != nil {
		return fmt.Errorf("specimen %s: %w", s.Name, err)
	}
	for _, each := range listeners {
		l.serve(gate, each)
	}
	l.Specimens = append(l.Specimens, r)
	return nil
}

// gate makes what serves a specimen.
func (s Specimen) gate(w World) (Gateway, error) {
	if s.Gate != nil {
		g, err := s.Gate(w)
		if s.TLS {
			g = insideTLS{g}
		}
		return g, err
	}
	var server open.SMTP
	if s.Server != nil { // the faults that speak no SMTP have none
		server = s.Server(w)
	}
	server.Name = s.Name + "." + Domain.String()
	server.Sink = w.sink(server.Name, netip.Addr{})
	return faulty{s.Wire, server}, nil
}

func (l *Lab) serve(g Gateway, listener net.Listener) {
	l.listeners = append(l.listeners, func(ctx context.Context) error { return g.Run(ctx, listener) })
}

// behind puts a server behind a specimen, at an address of its own.
func (l *Lab) behind(host netip.Addr, g Gateway) (netip.AddrPort, error) {
	if !host.IsLoopback() {
		return netip.AddrPort{}, errContained
	}
	listener, err := net.Listen("tcp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	l.close = append(l.close, listener.Close)
	l.serve(g, listener)
	return netip.ParseAddrPort(listener.Addr().String())
}

// Run serves all specimens until ctx ends and waits for their sessions.
func (l *Lab) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(l.listeners))
	var wg sync.WaitGroup
	for i, run := range l.listeners {
		wg.Go(func() {
			if errs[i] = run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	l.deliver.Wait()
	return errors.Join(errs...)
}

// Close closes the listeners.
func (l *Lab) Close() error {
	var errs []error
	for _, c := range l.close {
		if err := c(); err != nil && !strings.Contains(err.Error(), "use of closed") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
