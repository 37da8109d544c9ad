package forward

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"postern/internal/netop"
)

// Serve is that of the places of limits.
func Serve(ctx context.Context, l net.Listener, limits Limits, one func(context.Context, net.Conn)) error {
	return NewPlaces(limits).Serve(ctx, l, one)
}

// Serve hands each connection of l to one until ctx ends or l is closed, closes
// l, and returns when every call has ended: nil after ctx has ended, else why
// nobody can come in any more. Each holds a place while it is served; where no
// place or no descriptor is left it is closed without a word. The context that
// one gets ends with ctx; one closes its connection.
func (p *Places) Serve(ctx context.Context, l net.Listener, one func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer cancel()
	defer running.Wait() // what was begun ends in its own time, or with the caller's context
	return netop.Accept(ctx, l, nil, func(c net.Conn) {
		leave := p.Take(netop.AddrPort(c.RemoteAddr()).Addr())
		if leave == nil {
			c.Close()
			return
		}
		running.Go(func() {
			defer leave()
			one(ctx, c)
		})
	})
}

// network returns what counts as one client: an IPv6 host has a whole /64.
func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// Places are those of Limits.Connections and Limits.PerClient. They are safe
// for concurrent use, and hold no more clients than connections.
type Places struct {
	most, each int

	mu      sync.Mutex
	all     int
	clients map[netip.Addr]int
}

// NewPlaces returns the places of l, all of them free.
func NewPlaces(l Limits) *Places {
	l = l.WithDefaults()
	return &Places{most: l.Connections, each: l.PerClient, clients: map[netip.Addr]int{}}
}

// Take takes a place for a client and returns what gives it back, which is
// called once; nil where none is left.
func (p *Places) Take(client netip.Addr) (leave func()) {
	a := network(client)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most >= 0 && p.all >= p.most || p.each >= 0 && p.clients[a] >= p.each {
		return nil
	}
	p.all++
	p.clients[a]++
	return func() { p.leave(a) }
}

func (p *Places) leave(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.clients[a]--; p.clients[a] == 0 {
		delete(p.clients, a)
	}
}
