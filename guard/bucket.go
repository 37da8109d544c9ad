package guard

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Rate is how much of something may happen in a time. The zero Rate has no
// limit.
type Rate struct {
	N   int64
	Per time.Duration
}

var periods = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// ParseRate reads "50/h": a number, and s, m, h or d.
func ParseRate(s string) (Rate, error) {
	n, unit, ok := strings.Cut(s, "/")
	count, err := strconv.ParseInt(n, 10, 64)
	per, known := periods[unit]
	if !ok || err != nil || !known || count < 1 {
		return Rate{}, fmt.Errorf("%q is no rate; write it as 50/h, with s, m, h or d", s)
	}
	return Rate{count, per}, nil
}

// String returns the rate as ParseRate reads it; "" of the zero Rate.
func (r Rate) String() string {
	for unit, per := range periods {
		if r.Per == per {
			return strconv.FormatInt(r.N, 10) + "/" + unit
		}
	}
	return ""
}

// Buckets hold one leaky bucket for each key. They are safe for concurrent
// use, and bounded: see maxBuckets.
type Buckets struct {
	mu    sync.Mutex
	keys  map[string]*bucket
	swept time.Time // when it was last looked for empty ones
}

type bucket struct {
	level float64 // what was taken and has not leaked out yet
	at    time.Time
	rate  Rate
}

// maxBuckets bounds how many keys strangers can make us remember. Beyond it,
// empty ones are forgotten; when none is, a new key is told that it is over.
const maxBuckets = 100_000

// Take adds n for the key and returns how full its bucket is then, in shares
// of the rate: up to 1 there was room.
func (b *Buckets) Take(key string, n int64, r Rate, now time.Time) float64 {
	if r.N <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(key, n, r, now)
}

// Allow adds n for the key if there is room, and reports that. What it refuses
// it does not count: who asks too fast gets what the rate gives, not nothing.
func (b *Buckets) Allow(key string, n int64, r Rate, now time.Time) bool {
	if r.N <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.take(key, n, r, now) <= 1 {
		return true
	}
	if k := b.keys[key]; k != nil {
		k.level -= float64(n)
	}
	return false
}

func (b *Buckets) take(key string, n int64, r Rate, now time.Time) float64 {
	if b.keys == nil {
		b.keys = map[string]*bucket{}
	}
	k := b.keys[key]
	if k == nil {
		if len(b.keys) >= maxBuckets && !b.forget(now) {
			return noRoom
		}
		k = &bucket{at: now}
		b.keys[key] = k
	}
	k.rate = r
	k.leak(now)
	k.level += float64(n)
	return k.level / float64(r.N)
}

// noRoom is the answer when nobody can count: over the limit, below twice.
const noRoom = 1.5

// Return takes back what did not happen.
func (b *Buckets) Return(key string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.keys[key]; k != nil {
		k.level = max(0, k.level-float64(n))
	}
}

func (k *bucket) leak(now time.Time) {
	if passed := now.Sub(k.at); passed > 0 {
		k.level = max(0, k.level-float64(k.rate.N)*float64(passed)/float64(k.rate.Per))
		k.at = now
	}
}

// sweepEvery keeps a crowd of strangers from making each of them cost a walk
// through all keys.
const sweepEvery = time.Second

// forget drops the keys whose buckets have run empty.
func (b *Buckets) forget(now time.Time) bool {
	if passed := now.Sub(b.swept); passed >= 0 && passed < sweepEvery {
		return false
	}
	b.swept = now
	for key, k := range b.keys {
		if k.leak(now); k.level == 0 {
			delete(b.keys, key)
		}
	}
	return len(b.keys) < maxBuckets
}
