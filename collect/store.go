package collect

import (
	"context"
	"sync"
	"time"

	"postern/plan"
	"postern/verdict"
)

// Keep bounds what a collector remembers. Zero fields take those of DefaultKeep.
type Keep struct {
	Arrivals int           // at most
	Bytes    int           // of header sections, at most
	Age      time.Duration // at most
	PerToken int           // of one token; more are refused
}

// DefaultKeep holds a month of checks in little memory. A battery's token
// comes at most a few times: the message, and notices of delay and failure.
var DefaultKeep = Keep{Arrivals: 10000, Bytes: 32 << 20, Age: 30 * 24 * time.Hour, PerToken: 16}

func (k Keep) withDefaults() Keep {
	d := DefaultKeep
	if k.Arrivals <= 0 {
		k.Arrivals = d.Arrivals
	}
	if k.Bytes <= 0 {
		k.Bytes = d.Bytes
	}
	if k.Age <= 0 {
		k.Age = d.Age
	}
	if k.PerToken <= 0 {
		k.PerToken = d.PerToken
	}
	return k
}

// One answer to Arrivals holds at most so much; the next call has the rest.
const (
	pageArrivals = 200
	pageBytes    = 1 << 20
)

// A store keeps the latest arrivals in the order in which they came. Their
// numbers begin at the time when the store was made, so that whoever asks with
// a number from before a restart sees again all that was kept, and loses none.
type store struct {
	keep Keep

	mu       sync.Mutex
	list     []verdict.Arrival // list[0] has the number first
	first    uint64
	bytes    int
	perToken map[plan.Token]int
	changed  chan struct{} // closed and replaced when something is added
}

func newStore(keep Keep, now time.Time) *store {
	return &store{
		keep: keep.withDefaults(), first: uint64(now.UnixMicro()), //nolint:gosec // after 1970
		perToken: map[plan.Token]int{}, changed: make(chan struct{}),
	}
}

func (s *store) add(a verdict.Arrival, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, a)
	s.bytes += len(a.Header)
	if len(a.Tokens) > 0 {
		s.perToken[a.Tokens[0]]++
	}
	s.prune(now)
	close(s.changed)
	s.changed = make(chan struct{})
}

// prune lets the oldest go until all bounds hold.
func (s *store) prune(now time.Time) {
	n := 0
	for n < len(s.list) && (len(s.list)-n > s.keep.Arrivals || s.bytes > s.keep.Bytes || now.Sub(s.list[n].At) > s.keep.Age) {
		a := s.list[n]
		s.bytes -= len(a.Header)
		if len(a.Tokens) > 0 {
			if t := a.Tokens[0]; s.perToken[t] > 1 {
				s.perToken[t]--
			} else {
				delete(s.perToken, t)
			}
		}
		s.list[n] = verdict.Arrival{}
		n++
	}
	s.list, s.first = s.list[n:], s.first+uint64(n)
}

// full reports whether so many arrivals of a token are kept that more are noise.
func (s *store) full(t plan.Token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.perToken[t] >= s.keep.PerToken
}

// last returns the number of the latest arrival.
func (s *store) last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first + uint64(len(s.list)) - 1
}

// page returns arrivals after a number, the number of the last of them, and
// what is closed when there are more.
func (s *store) page(after uint64) ([]verdict.Arrival, uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.first + uint64(len(s.list))
	from := after + 1
	if from < s.first || from > end { // a number of before a restart, or of a clock that went back
		from = s.first
	}
	var list []verdict.Arrival
	for size := 0; from < end && len(list) < pageArrivals && size < pageBytes; from++ {
		a := s.list[from-s.first]
		size += len(a.Header)
		list = append(list, a)
	}
	return list, from - 1, s.changed
}

// wait is page that blocks until there is something, or ctx ends.
func (s *store) wait(ctx context.Context, after uint64) ([]verdict.Arrival, uint64, error) {
	for {
		list, next, changed := s.page(after)
		if len(list) > 0 {
			return list, next, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, next, context.Cause(ctx)
		}
	}
}
