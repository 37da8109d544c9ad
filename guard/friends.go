package guard

import (
	"net/netip"
	"sync"
	"time"
)

// friends are clients that did well here: they logged in, or brought a message
// that was taken. Where places are short they are let in before strangers.
type friends struct {
	mu      sync.Mutex
	logins  map[string]time.Time // by what one client holds: when it last did
	senders map[string]time.Time // apart, so that strangers cannot crowd out our own people
}

// How many are remembered, and how long.
const (
	mostFriends = 10_000
	friendsFor  = 30 * 24 * time.Hour
)

// met remembers a client.
func (f *friends) met(a netip.Addr, login bool, now time.Time) {
	if !a.IsValid() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.logins == nil {
		f.logins, f.senders = map[string]time.Time{}, map[string]time.Time{}
	}
	list := f.senders
	if login {
		list = f.logins
	}
	key := prefixOf(a)
	if _, known := list[key]; !known && len(list) >= mostFriends {
		for other := range list { // any: who comes often is soon back
			delete(list, other)
			break
		}
	}
	list[key] = now
}

// Known reports a client that was here before and did well: that logged in, or,
// where senders count, brought a message that was taken. At a port for logins
// they do not count: whoever writes one message would have our people's places.
func (s *State) Known(a netip.Addr, senders bool) bool {
	if !a.IsValid() {
		return false
	}
	key, now := prefixOf(a.Unmap().WithZone("")), time.Now()
	f := &s.friends
	f.mu.Lock()
	defer f.mu.Unlock()
	lists := []map[string]time.Time{f.logins}
	if senders {
		lists = append(lists, f.senders)
	}
	for _, list := range lists {
		if last, ok := list[key]; ok && now.Sub(last) < friendsFor {
			return true
		}
	}
	return false
}
