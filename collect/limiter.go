package collect

import (
	"net/netip"
	"sync"
	"time"
)

// A limiter lets each source do so much a second, and a burst at first. A
// source is a /24 of IPv4 or a /56 of IPv6: who has one has all of it.
type limiter struct {
	rate, burst float64
	sources     int // remembered at once

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, sources: 8192, buckets: map[netip.Prefix]bucket{}}
}

// allow takes cost from the source's bucket, if it holds so much.
func (l *limiter) allow(a netip.Addr, cost float64, now time.Time) bool {
	key := sourceOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[key]
	if !ok {
		l.makeRoom(now)
		b = bucket{left: l.burst, at: now}
	}
	b.left = min(l.burst, b.left+l.rate*now.Sub(b.at).Seconds())
	b.at = now
	enough := b.left >= cost
	if enough {
		b.left -= cost
	}
	l.buckets[key] = b
	return enough
}

// makeRoom forgets sources whose bucket is full again, and if there are none,
// any one: a flood of forged sources costs us memory for so many and no more.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < l.sources {
		return
	}
	looked := 0
	for key, b := range l.buckets {
		looked++
		if b.left+l.rate*now.Sub(b.at).Seconds() >= l.burst || looked == 64 {
			delete(l.buckets, key)
			return
		}
	}
}

func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits) // fails of the zero address only, which is a source like any other
	return p
}

// giveBack returns what was taken for a thing that did not come to pass.
func (l *limiter) giveBack(a netip.Addr, cost float64) {
	key := sourceOf(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.buckets[key]; ok {
		b.left = min(l.burst, b.left+cost)
		l.buckets[key] = b
	}
}
