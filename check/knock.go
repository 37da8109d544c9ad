package check

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// knocks are connections asked for before their turn: most of the ports that
// are tried have no server, and a firewall that drops what it does not like is
// only known by its silence, which lasts as long as the dialer's patience.
// Side by side that costs once what it costs one after the other for each port.
type knocks struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	answers map[uint16]chan answer // each is closed when its connection was given up
}

type answer struct {
	conn net.Conn
	err  error
}

// held is how long a connection waits for its turn. A server's own patience
// with a silent client is five minutes (RFC 5321 section 4.5.3.2.7); its
// places for us are what is scarce.
const held = 5 * time.Second

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// knock knocks at the ports; end lets go of what nobody took.
func knock(ctx context.Context, dial dialFunc, a netip.Addr, ports []uint16) *knocks {
	k := &knocks{answers: map[uint16]chan answer{}}
	ctx, k.stop = context.WithCancel(ctx)
	for _, number := range ports {
		ch := make(chan answer)
		k.answers[number] = ch
		k.wg.Go(func() {
			conn, err := dial(ctx, "tcp", netip.AddrPortFrom(a, number).String())
			offer(ctx, ch, answer{conn, err})
		})
	}
	return k
}

// offer holds the answer out until somebody takes it, and a connection no
// longer than held.
func offer(ctx context.Context, ch chan<- answer, a answer) {
	defer close(ch)
	var late <-chan time.Time // a refusal stays true
	if a.err == nil {
		timer := time.NewTimer(held)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case ch <- a:
		return
	case <-late:
	case <-ctx.Done():
	}
	if a.err == nil {
		_ = a.conn.Close()
	}
}

// dialer returns how to reach one port: the first time by what the knock
// brought, if it is still there.
func (k *knocks) dialer(dial dialFunc, to netip.AddrPort) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		k.mu.Lock()
		ch := k.answers[to.Port()]
		delete(k.answers, to.Port())
		k.mu.Unlock()
		if ch != nil {
			select {
			case a, ok := <-ch:
				if ok {
					return a.conn, a.err
				}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return dial(ctx, "tcp", to.String())
	}
}

func (k *knocks) end() {
	k.stop()
	k.wg.Wait()
}
