package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"postern/internal/machine"
	"postern/internal/netop"
)

// An ear is the listener of one generation on a socket, and can be asked
// whether it still hears: the port of a deaf one stays open in the kernel, and
// its clients wait for ever.
type ear struct {
	*net.TCPListener
	name   string
	at     netip.AddrPort
	knocks *knocks
	short  func(error)  // told of each failure to let somebody in
	heard  atomic.Int64 // how often Accept came back
}

// knocks are our own connections to our own sockets. All ears share them: a
// reload puts another ear to the same socket.
type knocks struct {
	pending atomic.Int32 // so that clients cost no lock when there is none
	mu      sync.Mutex
	from    map[netip.AddrPort]chan struct{}
}

// newEar makes an ear on a copy of a socket: the socket outlives it.
func newEar(name string, socket *net.TCPListener, k *knocks, short func(error)) (*ear, error) {
	l, err := copied(socket)
	if err != nil {
		return nil, fmt.Errorf("listener %q on %s: %w", name, socket.Addr(), err)
	}
	return &ear{TCPListener: l, name: name, at: netop.AddrPort(l.Addr()), knocks: k, short: short}, nil
}

func (e *ear) String() string { return fmt.Sprintf("listener %q on %s", e.name, e.at) }

// Accept returns the next client.
func (e *ear) Accept() (net.Conn, error) {
	for {
		c, err := e.TCPListener.Accept()
		e.heard.Add(1)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				e.short(err)
			}
			return nil, err
		}
		if !e.knocks.hear(c) {
			return c, nil
		}
		c.Close() // it was us
	}
}

// hear reports whether a client is our own knock, and tells who knocked.
func (k *knocks) hear(c net.Conn) bool {
	if k.pending.Load() == 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	from := netop.AddrPort(c.RemoteAddr())
	heard := k.from[from]
	if heard != nil {
		close(heard)
		delete(k.from, from)
	}
	return heard != nil
}

// knockPatience is for a connection to a socket of this machine; who connects
// holds up Accept as long.
const knockPatience = 250 * time.Millisecond

// hears connects to the socket and waits until the connection is taken. Where
// that cannot be tried, as within a sandbox that does not connect to that port,
// it looks whether clients wait that nobody takes.
func (e *ear) hears(ctx context.Context) error {
	c, heard, err := e.knock(ctx)
	if err != nil {
		return e.empties(ctx)
	}
	defer c.Close()
	select {
	case <-heard:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: a client that connects is not let in: %w", e, errSilent)
	}
}

func (e *ear) knock(ctx context.Context) (net.Conn, <-chan struct{}, error) {
	to := e.at
	switch {
	case to.Addr() == netip.IPv4Unspecified():
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	case to.Addr().IsUnspecified():
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	k := e.knocks
	k.pending.Add(1)
	k.mu.Lock() // Accept may be faster than this
	defer k.mu.Unlock()
	c, err := (&net.Dialer{Timeout: knockPatience}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		k.pending.Add(-1)
		return nil, nil, err
	}
	heard, from := make(chan struct{}), netop.AddrPort(c.LocalAddr())
	if k.from == nil {
		k.from = map[netip.AddrPort]chan struct{}{}
	}
	k.from[from] = heard
	return &knock{Conn: c, knocks: k, from: from}, heard, nil
}

// A knock is one that is under way.
type knock struct {
	net.Conn
	knocks *knocks
	from   netip.AddrPort
}

// Close ends it.
func (k *knock) Close() error {
	k.knocks.mu.Lock()
	delete(k.knocks.from, k.from)
	k.knocks.mu.Unlock()
	k.knocks.pending.Add(-1)
	return k.Conn.Close()
}

// empties reports clients that wait while nobody is let in.
func (e *ear) empties(ctx context.Context) error {
	before := e.heard.Load()
	for {
		waiting, err := machine.Waiting(e.TCPListener)
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EBADF):
			return nil // another generation has taken over
		case err != nil:
			return fmt.Errorf("%s: %w: %w", e, err, errSilent)
		case waiting == 0 || e.heard.Load() != before:
			return nil
		}
		select {
		case <-time.After(knockPatience):
		case <-ctx.Done():
			return fmt.Errorf("%s: %s, and nobody is let in: %w", e, count(waiting, "client waits", "clients wait"), errSilent)
		}
	}
}
