package collect

import (
	"net/netip"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := newLimiter(1, 3)
	a, same, far := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.200"), netip.MustParseAddr("2001:db8::1")
	for i, c := range []struct {
		from netip.Addr
		at   time.Duration
		want bool
	}{
		{a, 0, true},
		{a, 0, true},
		{same, 0, true},
		{a, 0, false}, // one /24 has one bucket
		{far, 0, true},
		{a, time.Second, true},
		{a, time.Second, false},
		{a, time.Hour, true},
		{a, time.Hour, true},
		{a, time.Hour, true},
		{a, time.Hour, false}, // never more than the burst
	} {
		if got := l.allow(c.from, 1, testTime.Add(c.at)); got != c.want {
			t.Errorf("%d: %s after %v: %v, want %v", i, c.from, c.at, got, c.want)
		}
	}
	for i := range 20000 {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 1, testTime)
	}
	if len(l.buckets) > l.sources {
		t.Errorf("%d sources are remembered, want no more than %d", len(l.buckets), l.sources)
	}
}
