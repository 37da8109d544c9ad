package smtp

import (
	"net/netip"
	"sync"

	"postern/mail"
)

// A census counts the connections there are, so that one client, or one
// network, cannot have them all.
type census struct {
	mu       sync.Mutex
	all      int
	clients  map[netip.Prefix]int
	networks map[netip.Prefix]int
}

// enter counts one more connection of addr; leave must be called in any case.
func (s *census) enter(addr netip.Addr, l *Limits) (leave func(), refusal mail.Reply) {
	client, network := neighbourhood(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case over(s.all+1, l.Connections):
		return func() {}, replyBusy
	case addr.IsValid() && (over(s.clients[client]+1, l.PerClient) || over(s.networks[network]+1, l.PerNetwork)):
		return func() {}, replyCrowd
	}
	s.all++
	if addr.IsValid() {
		if s.clients == nil {
			s.clients, s.networks = map[netip.Prefix]int{}, map[netip.Prefix]int{}
		}
		s.clients[client]++
		s.networks[network]++
	}
	return func() { s.leave(client, network) }, mail.Reply{}
}

func (s *census) leave(client, network netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if client.IsValid() {
		decrease(s.clients, client)
		decrease(s.networks, network)
	}
}

func decrease(m map[netip.Prefix]int, key netip.Prefix) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}

// neighbourhood returns what counts as one client and as one network: one host
// has a whole /64 of IPv6 to choose its address from.
func neighbourhood(addr netip.Addr) (client, network netip.Prefix) {
	if !addr.IsValid() {
		return
	}
	addr = addr.WithZone("")
	one, many := 32, 24
	if addr.Is6() {
		one, many = 64, 56
	}
	client, _ = addr.Prefix(one)
	network, _ = addr.Prefix(many)
	return client, network
}
