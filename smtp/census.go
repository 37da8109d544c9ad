package smtp

import (
	"net/netip"
	"sync"

	"postern/mail"
)

// A Census counts the connections there are, so that one client, or one
// network, cannot have them all. The zero Census is ready; servers that share
// one share the places of their limits.
type Census struct {
	mu     sync.Mutex
	all    int
	places map[netip.Prefix]int // of clients, networks and sites: their lengths differ
}

// Of the places of Limits.Connections, strangers are hurried once crowdShare
// percent are taken, and get none beyond strangerShare: the rest is for those
// whom the server knows.
const (
	crowdShare    = 80
	strangerShare = 90
)

// enter counts one more connection of addr; leave must be called in any case.
// A client that is not known may be told to come again while others are let in.
func (s *Census) enter(addr netip.Addr, l *Limits, stranger bool) (leave func(), refusal mail.Reply) {
	near := neighbourhood(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case over(s.all+1, l.Connections), stranger && l.Connections > 0 && s.all+1 > share(l.Connections, strangerShare):
		return func() {}, replyBusy
	case near.client.IsValid() && (over(s.places[near.client]+1, l.PerClient) || over(s.places[near.network]+1, l.PerNetwork)),
		near.site.IsValid() && over(s.places[near.site]+1, l.PerSite):
		return func() {}, replyCrowd
	}
	s.all++
	if s.places == nil {
		s.places = map[netip.Prefix]int{}
	}
	for _, p := range near.all() {
		s.places[p]++
	}
	return func() { s.leave(near) }, mail.Reply{}
}

// share is a percentage of places, and at least one of them.
func share(places, percent int) int { return max(places*percent/100, 1) }

func (s *Census) leave(near vicinity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	for _, p := range near.all() {
		if s.places[p]--; s.places[p] <= 0 {
			delete(s.places, p)
		}
	}
}

// crowded reports that strangers must be quick.
func (s *Census) crowded(l *Limits) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.Connections > 0 && s.all > share(l.Connections, crowdShare)
}

// A vicinity is what counts as one client, one network and one site: one host
// has a whole /64 of IPv6 to choose its address from, a household a /56, and a
// customer who asks for more a /48. What an address has not is invalid.
type vicinity struct{ client, network, site netip.Prefix }

func neighbourhood(addr netip.Addr) (v vicinity) {
	if !addr.IsValid() {
		return v
	}
	addr = addr.WithZone("")
	one, many := 32, 24
	if addr.Is6() {
		one, many = 64, 56
		v.site, _ = addr.Prefix(48)
	}
	v.client, _ = addr.Prefix(one)
	v.network, _ = addr.Prefix(many)
	return v
}

func (v vicinity) all() (list []netip.Prefix) {
	for _, p := range []netip.Prefix{v.client, v.network, v.site} {
		if p.IsValid() {
			list = append(list, p)
		}
	}
	return list
}
