package collect

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"postern/policy"
)

// testedFor is how long the zone points at an inside address after a test of
// it has begun: as long as a relay usually tries.
const testedFor = 5 * 24 * time.Hour

// maxTested bounds how many inside addresses are remembered: more than a /16.
const maxTested = 100_000

// tested are the inside addresses that this process tests. The zero value is
// ready.
type tested struct {
	mu    sync.Mutex
	until map[netip.Addr]time.Time
}

// add remembers an address that is inside; any other is answered for anyway.
func (t *tested) add(a netip.Addr, now time.Time) {
	if policy.Inside(a, nil) == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until == nil {
		t.until = map[netip.Addr]time.Time{}
	}
	if _, known := t.until[a]; known || len(t.until) < maxTested {
		t.until[a] = now.Add(testedFor)
	}
}

func (t *tested) has(a netip.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	until, known := t.until[a]
	if known && now.After(until) {
		delete(t.until, a)
		return false
	}
	return known
}

// pointsAt reports whether the name of a test may lead to an address.
func (z *Zone) pointsAt(a netip.Addr) bool {
	return policy.Inside(a, nil) == "" ||
		slices.ContainsFunc(z.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) ||
		z.tested.has(a, time.Now())
}
