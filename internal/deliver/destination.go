package deliver

import (
	"slices"
	"time"

	"postern/internal/queue"
)

// Limits bound what deliveries hold at once.
type Limits struct {
	Total   int // attempts of all destinations; 0: 500
	Each    int // of one destination that does well; 0: 20
	Start   int // of one that is new, or was slow to answer; 0: 5
	NewOnes int // of all destinations that have not answered yet; 0: a quarter of Total
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		n         *int
		otherwise int
	}{{&l.Total, 500}, {&l.Each, 20}, {&l.Start, 5}} {
		if *f.n <= 0 {
			*f.n = f.otherwise
		}
	}
	if l.NewOnes <= 0 {
		l.NewOnes = max(l.Total/4, 1)
	}
	l.Start = min(l.Start, l.Each)
	return l
}

// ahead is how many leases of one destination wait here at most, beside those
// that are under way: enough that a connection that is free finds the next.
const ahead = 32

// A destination is what the scheduler knows of one domain. The scheduler's
// goroutine alone touches it.
type destination struct {
	name    string
	waiting []queue.Lease
	active  int
	most    int // by its route
	limit   int // attempts at once: one more after each success, half after a 421
	proven  bool
	lined   bool      // it stands in a line of the scheduler
	last    time.Time // when it was last heard of

	failures int       // in a row, without a word from any of its hosts
	since    time.Time // when that was last found
	until    time.Time // nobody is asked before
	why      string

	gap  time.Duration // between two attempts, when it says that we are too fast
	next time.Time
	busy time.Time // when it last said so

	sums Sums
}

// Sums count what became of deliveries.
type Sums struct {
	Delivered uint64 `json:"delivered"`
	Deferred  uint64 `json:"deferred"`
	Failed    uint64 `json:"failed"`
}

// A health is what an attempt tells about its destination.
type health uint8

const (
	silent  health = iota // nobody was asked
	dead                  // nobody answered
	busy                  // it says that we are too fast
	healthy               // it answered
)

// blocks are the waits for a destination of which no host answers, by how
// often that was so in a row.
var blocks = []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}

const (
	leastGap = 100 * time.Millisecond
	mostGap  = time.Minute
)

// heard draws the consequences of an attempt that began at began.
func (d *destination) heard(h health, why string, began, now time.Time) {
	switch h {
	case silent:
	case healthy:
		d.proven, d.failures, d.until, d.why = true, 0, time.Time{}, ""
		d.limit = min(d.limit+1, d.most)
		if d.gap -= d.gap / 8; d.gap < leastGap {
			d.gap = 0
		}
	case busy:
		if began.Before(d.busy) {
			return // as below: eight that it refuses together are one word
		}
		d.busy = now
		d.proven, d.failures = true, 0
		d.limit = max(d.limit/2, 1)
		d.gap = min(max(2*d.gap, leastGap), mostGap)
		d.next = now.Add(d.gap)
	case dead:
		if began.Before(d.since) {
			return // it was under way when another found the same
		}
		d.failures++
		d.proven, d.limit = false, 1
		d.since, d.until, d.why = now, now.Add(blocks[min(d.failures, len(blocks))-1]), why
	}
}

// lift ends its pause: it is asked again as one that is new.
func (d *destination) lift(limit int) {
	d.failures, d.until, d.why, d.limit = 0, time.Time{}, "", limit
}

// blocked reports whether nobody is asked now.
func (d *destination) blocked(now time.Time) bool { return now.Before(d.until) }

// A Status is what the deliverer does for one destination now.
type Status struct {
	Destination string    `json:"destination"`
	Active      int       `json:"active"`
	Ahead       int       `json:"ahead"`
	Limit       int       `json:"limit"`
	Blocked     time.Time `json:"blocked_until,omitzero"`
	Why         string    `json:"why,omitempty"`
	Gap         string    `json:"gap,omitempty"`
	Sums
}

func (d *destination) status(now time.Time) Status {
	s := Status{Destination: d.name, Active: d.active, Ahead: len(d.waiting), Limit: d.limit, Sums: d.sums}
	if d.blocked(now) {
		s.Blocked, s.Why = now.Add(d.until.Sub(now)), d.why // by the clock of now
	}
	if d.gap > 0 {
		s.Gap = d.gap.String()
	}
	return s
}

// take returns the lease that waited longest.
func (d *destination) take() queue.Lease {
	l := d.waiting[0]
	d.waiting[0] = queue.Lease{}
	if d.waiting = d.waiting[1:]; len(d.waiting) == 0 {
		d.waiting = nil
	}
	return l
}

func (d *destination) takeAll() []queue.Lease {
	all := slices.Clone(d.waiting)
	d.waiting = nil
	return all
}
