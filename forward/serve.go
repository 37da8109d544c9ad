package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern/internal/netop"
)

// Serve hands each connection of l to one until ctx ends or l fails, closes l,
// and returns when every call has ended: nil after ctx has ended, else why l
// failed. Connections beyond the limits are closed without a word. The context
// that one gets ends with ctx; one closes its connection.
func Serve(ctx context.Context, l net.Listener, limits Limits, one func(context.Context, net.Conn)) error {
	limits = limits.WithDefaults()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer cancel()
	defer running.Wait() // what was begun ends in its own time, or with the caller's context
	defer context.AfterFunc(ctx, func() { l.Close() })()
	count := census{most: limits.Connections, each: limits.PerClient, clients: map[netip.Addr]int{}}
	for wait := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			client := network(netop.AddrPort(c.RemoteAddr()).Addr())
			if !count.enter(client) {
				c.Close()
				continue
			}
			running.Go(func() {
				defer count.leave(client)
				one(ctx, c)
			})
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed) || wait > maxAcceptWait:
			l.Close()
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		default:
			// Out of file descriptors, or a client that gave up in between:
			// it passes, and a server that ends over it helps nobody.
			wait = max(5*time.Millisecond, 2*wait)
			pause(ctx, wait)
		}
	}
}

const maxAcceptWait = 5 * time.Second

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
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

// A census counts who is in. It holds no more clients than connections.
type census struct {
	most, each int

	mu      sync.Mutex
	all     int
	clients map[netip.Addr]int
}

func (c *census) enter(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most >= 0 && c.all >= c.most || c.each >= 0 && c.clients[a] >= c.each {
		return false
	}
	c.all++
	c.clients[a]++
	return true
}

func (c *census) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.clients[a]--; c.clients[a] == 0 {
		delete(c.clients, a)
	}
}
