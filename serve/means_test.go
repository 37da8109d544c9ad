package serve

import (
	"strings"
	"testing"

	"postern/door"
	"postern/internal/machine"
	"postern/internal/problem"
	"postern/smtp"
)

// All parts together find room on any machine.
func TestDivide(t *testing.T) {
	for _, c := range []struct {
		name                         string
		means                        machine.Means
		listeners, gateways          int
		connections, deliveries, tun int // the least and the most that we expect
		store, flight                int64
		warns                        bool
	}{
		{"nobody says", machine.Means{}, 3, 1, 2000, 500, 10_000, 288 << 20, 512 << 20, false},
		{"a server", machine.Means{Memory: 16 << 30, Descriptors: 65536}, 3, 0, 2000, 500, 10_000, 288 << 20, 512 << 20, false},
		{"a small container", machine.Means{Memory: 256 << 20, Group: true, Descriptors: 65536}, 1, 0, 1024, 128, 10_000, 16 << 20, 32 << 20, true},
		{"the usual number of descriptors", machine.Means{Memory: 16 << 30, Descriptors: 1024}, 2, 0, 357, 238, 10_000, 288 << 20, 512 << 20, true},
		{"few descriptors", machine.Means{Descriptors: 120}, 1, 0, 39, 13, 10_000, 288 << 20, 512 << 20, true},
		{"fewer than we need", machine.Means{Descriptors: 32}, 1, 0, leastPart, leastPart, 10_000, 288 << 20, 512 << 20, true},
		{"with gateways", machine.Means{Memory: 1 << 30, Descriptors: 4096}, 3, 2, 668, 500, 83, 64 << 20, 128 << 20, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Settings{Listeners: make([]Listener, c.listeners)}
			for range c.gateways {
				s.Gateways = append(s.Gateways, Gateway{Door: door.SOCKS})
			}
			h := divide(c.means, s)
			if h.connections != c.connections || h.deliveries != c.deliveries || h.tunnels != c.tun || h.store != c.store || h.flight != c.flight {
				t.Errorf("got %+v", h)
			}
			if m := c.means; m.Memory > 0 && h.heap+h.store >= m.Memory || m.Memory == 0 && h.heap != 0 {
				t.Errorf("the heap has %d", h.heap)
			}
			if d := c.means.Descriptors; d > 100 && ownDescriptors+c.listeners*h.connections+h.deliveries+c.gateways*h.tunnels*tunnelCosts > d {
				t.Errorf("it needs more than %d descriptors: %+v", d, h)
			}
			err := h.short(c.means, s)
			if _, warnings := problem.Split(err); (warnings != nil) != c.warns || c.warns && !strings.Contains(err.Error(), "limits: connections is 2000, and ") {
				t.Errorf("it says %v, want a warning: %v", err, c.warns)
			}
		})
	}
	s := &Settings{Listeners: make([]Listener, 1), Engine: smtp.Limits{Connections: 10}}
	if h := divide(machine.Means{Descriptors: 1024}, s); h.connections != 10 || h.short(machine.Means{Descriptors: 1024}, s) != nil {
		t.Errorf("a limit that the machine carries: %+v", h)
	}
}
