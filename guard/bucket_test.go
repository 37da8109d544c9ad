package guard

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	var b Buckets
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := Rate{10, time.Hour}
	for i := range 10 {
		if full := b.Take("a", 1, r, now); full > 1 {
			t.Errorf("%d of 10: %v", i+1, full)
		}
	}
	if full := b.Take("a", 1, r, now); full <= 1 {
		t.Errorf("11 of 10: %v", full)
	}
	if full := b.Take("b", 1, r, now); full > 1 {
		t.Errorf("another key: %v", full)
	}
	b.Return("a", 1)
	if full := b.Take("a", 0, r, now.Add(30*time.Minute)); full != 0.5 {
		t.Errorf("after half of the time: %v", full)
	}
	if full := b.Take("a", 0, r, now.Add(-time.Hour)); full != 0.5 {
		t.Errorf("a clock that goes back gives and takes nothing: %v", full)
	}
	if full := b.Take("a", 5, Rate{}, now); full != 0 {
		t.Errorf("no limit: %v", full)
	}
	if b.Return("nobody", 5); b.Take("nobody", 1, r, now) > 1 {
		t.Error("what nobody took was given back")
	}
}

// Who asks ten times as fast as the rate gets the rate, from the first minute to the last.
func TestWhoAsksTooFastGetsTheRate(t *testing.T) {
	var b Buckets
	now, got := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 0
	r := Rate{5, time.Minute}
	for range 100 * 50 {
		if b.Allow("a", 1, r, now) {
			got++
		}
		now = now.Add(time.Minute / 50)
	}
	if got < 500 || got > 505 {
		t.Errorf("%d in a hundred minutes, want 5 each, and 5 at once", got)
	}
	if !b.Allow("a", 1, r, now.Add(time.Minute/5)) {
		t.Error("who waited is refused")
	}
	if !b.Allow("a", 5000, Rate{}, now) {
		t.Error("no limit, and refused")
	}
}

func TestBucketsAreBounded(t *testing.T) {
	var b Buckets
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := Rate{1, time.Minute}
	for i := range maxBuckets {
		b.Take(fmt.Sprint(i), 1, r, now)
	}
	if full := b.Take("one more", 1, r, now); full <= 1 || len(b.keys) != maxBuckets {
		t.Errorf("a full table lets in: %v, %d keys", full, len(b.keys))
	}
	if full := b.Take("later", 1, r, now.Add(time.Hour)); full > 1 || len(b.keys) > 2 {
		t.Errorf("an hour later: %v, %d keys", full, len(b.keys))
	}
}

func TestParseRate(t *testing.T) {
	for _, s := range []string{"1/s", "50/h", "1000/d", "60/m"} {
		if r, err := ParseRate(s); err != nil || r.String() != s {
			t.Errorf("ParseRate(%q) = %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "50", "50/", "/h", "0/h", "-1/h", "50/y", "5 0/h", "50/hh", "1e3/h"} {
		if _, err := ParseRate(s); err == nil || !strings.Contains(err.Error(), "write it as 50/h") {
			t.Errorf("ParseRate(%q): %v", s, err)
		}
	}
}

// What reads as a rate is written as the same rate, and lets something pass.
func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"50/h", "1/s", "9223372036854775807/d", "+5/m", "05/m", "5/", "-1/h", "5/h "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRate(s)
		if err != nil {
			return
		}
		if again, err := ParseRate(r.String()); err != nil || again != r || r.N < 1 || r.Per <= 0 {
			t.Errorf("ParseRate(%q) = %v, which reads as %v (%v)", s, r, again, err)
		}
	})
}
