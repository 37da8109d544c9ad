package check

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A street has ports that answer and ports that a firewall drops.
type street struct {
	mu     sync.Mutex
	dials  int
	opened []net.Conn // the servers' ends
}

func (s *street) dial(ctx context.Context, _, address string) (net.Conn, error) {
	s.mu.Lock()
	s.dials++
	s.mu.Unlock()
	if netip.MustParseAddrPort(address).Port() != 25 {
		return nil, sleepThen(ctx, 20*time.Second)
	}
	client, server := net.Pipe()
	s.opened = append(s.opened, server)
	return client, nil
}

var errDropped = errors.New("no answer")

func sleepThen(ctx context.Context, d time.Duration) error {
	return errors.Join(sleep(ctx, d), errDropped)
}

var house = netip.MustParseAddr("203.0.113.10")

func TestDroppedPortsCostOnePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := &street{}, time.Now()
		ports := []uint16{465, 587, 2525}
		k := knock(t.Context(), s.dial, house, ports)
		defer k.end()
		for _, number := range ports {
			if _, err := k.dialer(s.dial, netip.AddrPortFrom(house, number))(t.Context()); !errors.Is(err, errDropped) {
				t.Errorf("port %d: %v, want %v", number, err, errDropped)
			}
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("three dropped ports took %s, want 20s", took)
		}
	})
}

func TestKnockIsUsedOnceAndNotHeldForLong(t *testing.T) {
	for _, test := range []struct {
		name         string
		after        time.Duration
		first, dials int // connections that the server saw after the first use, and after the second
	}{
		{"at once", 0, 1, 2},
		{"in time", held - 1, 1, 2},
		{"too late", held + 1, 2, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &street{}
				k := knock(t.Context(), s.dial, house, []uint16{25})
				defer k.end()
				time.Sleep(test.after)
				synctest.Wait()
				dial := k.dialer(s.dial, netip.AddrPortFrom(house, 25))
				for _, want := range []int{test.first, test.dials} {
					c, err := dial(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if s.dials != want {
						t.Errorf("%d connections, want %d", s.dials, want)
					}
				}
				if test.first == 1 {
					return
				}
				if _, err := s.opened[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("the connection that nobody took: %v, want it closed", err)
				}
			})
		})
	}
}

func TestKnocksEndWithTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := &street{}, time.Now()
		k := knock(t.Context(), s.dial, house, []uint16{25, 587})
		synctest.Wait()
		k.end()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s to let go", took)
		}
		if _, err := s.opened[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection that nobody took: %v, want it closed", err)
		}
	})
}
