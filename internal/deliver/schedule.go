package deliver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"postern/internal/problem"
	"postern/internal/queue"
)

const (
	attemptLimit = time.Hour        // of the dialogues; the word about them is kept for longer
	leaseFor     = 90 * time.Minute // longer than an attempt and its settling may take, and
	waitsFor     = 10 * time.Minute // what may pass before the attempt begins
	batch        = 128              // leases at once
	pause        = time.Second      // after a queue that failed
	forgetAfter  = 10 * time.Minute // what is known of a destination for which nothing comes
)

// A scheduler gives each destination its share. All of it belongs to the
// goroutine of run; what that starts hands it things to do.
type scheduler struct {
	d    *Deliverer
	work context.Context //nolint:containedctx // that of attempts: it outlives run's own by the grace

	to      map[string]*destination
	active  int // attempts that have a place
	held    int // leases that are ours
	unknown int // attempts at destinations that have not answered yet
	starved []*destination
	strange []*destination // those that have not answered yet, and wait for a place among such
	paced   map[*destination]struct{}

	events  chan func()
	idle    chan func() // to goroutines that have made an attempt and could make another
	ending  chan struct{}
	asking  bool      // the queue is being asked
	hungry  bool      // it may have more
	at      time.Time // when it will; zero: when it says so
	swept   time.Time
	clock   *clock
	begun   bool // times that a wrong clock left were looked for
	running sync.WaitGroup
}

func newScheduler(d *Deliverer, work context.Context) *scheduler {
	return &scheduler{
		d: d, work: work, to: map[string]*destination{}, paced: map[*destination]struct{}{},
		events: make(chan func(), 256), idle: make(chan func()), ending: make(chan struct{}), hungry: true, swept: time.Now(),
		clock: newClock(d.o.Running),
	}
}

// run schedules until ctx ends, and returns when all that it began has ended.
func (s *scheduler) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.ask()
		timer.Reset(s.wait(time.Now()))
		select {
		case <-ctx.Done():
		case do := <-s.events:
			do()
		case <-s.d.o.Queue.Changed():
			s.hungry = true
		case answer := <-s.d.asked:
			answer <- s.snapshot(time.Now())
		case l := <-s.d.lifts:
			l.lifted <- s.lift(l.names, time.Now())
		case <-timer.C:
			s.tick(time.Now())
		}
	}
	s.stop()
}

// stop gives back what was not begun, and waits for what was.
func (s *scheduler) stop() {
	for _, d := range s.to {
		for _, l := range d.takeAll() {
			_ = s.d.o.Queue.Return(s.work, l) // without us its lease ends by itself
		}
	}
	close(s.ending)
	ended := make(chan struct{})
	go func() { s.running.Wait(); close(ended) }()
	for {
		select {
		case <-s.events: // nothing follows from it any more
		case <-ended:
			return
		}
	}
}

// ask asks the queue for what is due, if there is room and hope. The fuller it
// is here, the fewer leases of one destination wait; and when those that have
// not answered yet hold half of all, only those that have are asked for, or
// mail to many dead domains would be all that there is.
func (s *scheduler) ask() {
	all := 2 * s.d.o.Limits.Total
	room := all - s.held
	if !s.hungry || s.asking || room < 1 || s.follow() {
		return
	}
	most, strange := max(ahead*room/all, 1), 0
	var full, proven []string
	for _, d := range s.to {
		if !d.proven {
			strange += d.active + len(d.waiting)
		}
		if len(d.waiting) >= most {
			full = append(full, d.name)
		} else if d.proven {
			proven = append(proven, d.name)
		}
	}
	a := queue.Ask{Owner: owner, Now: time.Now(), Max: min(room, batch), Each: most, Except: full}
	a.Until = a.Now.Add(leaseFor)
	s.hungry = false
	if strange >= all/2 {
		if a.Only = proven; len(proven) == 0 {
			s.at = a.Now.Add(pause)
			return
		}
	}
	s.asking = true
	s.running.Go(func() {
		leases, err := s.d.o.Queue.Lease(s.work, a)
		next, ok := time.Time{}, false
		switch {
		case err != nil || len(leases) > 0:
		case a.Only != nil:
			next, ok = a.Now.Add(pause), true // the others are due, and it is not their turn
		default:
			next, ok, err = s.d.o.Queue.Next(s.work, full)
		}
		if !ok {
			next = time.Time{}
		}
		select {
		case s.events <- func() { s.given(leases, next, err) }:
		case <-s.work.Done():
		}
	})
}

// longest is how far ahead a next attempt is at most; see again.
var longest = time.Duration(1.2*float64(steps[len(steps)-1])) + leastStep

// follow has the queue follow a clock that was set, before anything is leased
// by it; at the start, what a wrong one left is put right. What was leased and
// not begun goes back: it has its times with it.
func (s *scheduler) follow() bool {
	by := s.clock.step()
	if by == 0 && s.begun {
		return false
	}
	s.begun, s.asking = true, true
	var back []queue.Lease
	for _, d := range s.to {
		back = append(back, d.takeAll()...)
	}
	s.held -= len(back)
	s.running.Go(func() {
		for _, l := range back {
			_ = s.d.o.Queue.Return(s.work, l) // it ends by itself if it cannot be given back
		}
		n, err := s.d.o.Queue.Shift(s.work, time.Now(), by, longest)
		switch {
		case err != nil:
			s.d.o.Report(fmt.Errorf("the clock was set by %v: put the times right of what waits: %w", by.Round(time.Second), err))
		case by != 0:
			s.d.o.Report(problem.Warn(problem.Pos{}, fmt.Sprintf("the clock was set by %v: what waits goes on waiting as long as it would have (%d messages)", by.Round(time.Second), n), ""))
		case n > 0:
			s.d.o.Report(problem.Warn(problem.Pos{}, fmt.Sprintf("a clock that was wrong has left times that lie ahead: %d messages are tried now", n), ""))
		}
		s.tell(func() { s.asking, s.hungry = false, true })
	})
	return true
}

// lift ends the pauses of destinations, of all if no name is given, and returns
// those that had one.
func (s *scheduler) lift(names []string, now time.Time) (lifted []Status) {
	s.d.peers.forget()
	lift := func(d *destination) {
		if d != nil && d.blocked(now) {
			lifted = append(lifted, d.status(now))
			d.lift(s.d.o.Limits.Start)
		}
	}
	for _, name := range names {
		lift(s.to[name])
	}
	if len(names) == 0 {
		for _, d := range s.to {
			lift(d)
		}
	}
	sortStatus(lifted)
	s.hungry = true
	return lifted
}

// given takes what the queue gave.
func (s *scheduler) given(leases []queue.Lease, next time.Time, err error) {
	now := time.Now()
	s.asking, s.at = false, next
	s.hungry = s.hungry || len(leases) > 0
	if err != nil {
		s.d.o.Report(err)
		s.hungry, s.at = false, now.Add(pause)
	}
	for _, l := range leases {
		s.held++
		d := s.destination(l.Destination)
		d.waiting = append(d.waiting, l)
	}
	for _, l := range leases {
		s.start(s.to[l.Destination], now)
	}
}

func (s *scheduler) destination(name string) *destination {
	d := s.to[name]
	if d == nil {
		d = &destination{name: name, limit: s.d.o.Limits.Start}
		s.to[name] = d
	}
	return d
}

// start begins what a destination may do now.
func (s *scheduler) start(d *destination, now time.Time) {
	if len(d.waiting) == 0 {
		return
	}
	if d.blocked(now) {
		s.putOff(d)
		return
	}
	way := s.d.o.Routes().For(d.name)
	d.most = cmp.Or(way.Most, s.d.o.Limits.Each)
	if way.Kind == ToMaildir || way.Kind == ToNobody {
		d.proven = true
	}
	d.limit = min(d.limit, d.most)
	for len(d.waiting) > 0 && d.active < d.limit {
		switch {
		case now.Before(d.next):
			s.paced[d] = struct{}{}
			return
		case s.active >= s.d.o.Limits.Total:
			s.starved = line(s.starved, d)
			return
		case !d.proven && s.unknown >= s.d.o.Limits.NewOnes:
			s.strange = line(s.strange, d)
			return
		}
		s.begin(d, now)
	}
}

// line puts a destination at the end of a line in which it stands once.
func line(list []*destination, d *destination) []*destination {
	if d.lined {
		return list
	}
	d.lined = true
	return append(list, d)
}

// serve starts those that stand in a line while a place is free.
func (s *scheduler) serve(list *[]*destination, free func() bool, now time.Time) {
	for n := len(*list); n > 0 && free(); n-- {
		d := (*list)[0]
		*list = (*list)[1:]
		d.lined = false
		s.start(d, now)
	}
}

// begin starts one attempt.
func (s *scheduler) begin(d *destination, now time.Time) {
	l, strange := d.take(), !d.proven
	d.active++
	s.active++
	if strange {
		s.unknown++
	}
	if d.gap > 0 {
		d.next = now.Add(d.gap)
	}
	if len(d.waiting) < ahead/2 {
		s.hungry = true
	}
	s.attend(func() {
		var once sync.Once
		over := func(h health, why string) {
			once.Do(func() { s.tell(func() { s.over(d, strange, h, why, now) }) })
		}
		sums := s.d.attempt(s.work, l, over)
		over(silent, "")
		s.tell(func() { s.settled(d, sums) })
	})
}

// attend lets a goroutine do something that has time, whose stack has grown
// already, or a new one.
func (s *scheduler) attend(do func()) {
	select {
	case s.idle <- do:
		return
	default:
	}
	s.running.Go(func() {
		do()
		rest := time.NewTimer(idleFor)
		defer rest.Stop()
		for {
			rest.Reset(idleFor)
			select {
			case do := <-s.idle:
				do()
			case <-rest.C:
				return
			case <-s.ending:
				return
			}
		}
	})
}

// tell hands the scheduler something to do.
func (s *scheduler) tell(do func()) { s.events <- do }

// over takes that an attempt needs its place no more.
func (s *scheduler) over(d *destination, strange bool, h health, why string, began time.Time) {
	now := time.Now()
	d.active--
	s.active--
	if strange {
		s.unknown--
	}
	d.heard(h, why, began, now)
	// Those that wait for a place come first: who has one would keep it for ever.
	s.serve(&s.starved, func() bool { return s.active < s.d.o.Limits.Total }, now)
	s.serve(&s.strange, func() bool { return s.active < s.d.o.Limits.Total && s.unknown < s.d.o.Limits.NewOnes }, now)
	s.start(d, now)
}

// settled takes that the queue knows what became of a lease.
func (s *scheduler) settled(d *destination, sums Sums) {
	s.held--
	d.sums.Delivered += sums.Delivered
	d.sums.Deferred += sums.Deferred
	d.sums.Failed += sums.Failed
	d.last = time.Now()
}

// putOff lets all that waits for a destination that does not answer wait in
// the queue, without asking it.
func (s *scheduler) putOff(d *destination) {
	list, until, why := d.takeAll(), d.until, d.why
	s.hungry = true
	s.running.Go(func() {
		for _, l := range list {
			sums := s.d.putOff(s.work, l, until, why)
			s.tell(func() { s.settled(d, sums) })
		}
	})
}

// wait returns how long there is nothing to do.
func (s *scheduler) wait(now time.Time) time.Duration {
	wait := s.swept.Add(time.Minute).Sub(now)
	if !s.at.IsZero() && !s.asking {
		wait = min(wait, s.at.Sub(now))
	}
	for d := range s.paced {
		wait = min(wait, d.next.Sub(now))
	}
	return max(wait, 0)
}

// tick does what time alone brings.
func (s *scheduler) tick(now time.Time) {
	if !s.at.IsZero() && !now.Before(s.at) {
		s.at, s.hungry = time.Time{}, true
	}
	for d := range s.paced {
		if !now.Before(d.next) {
			delete(s.paced, d)
			s.start(d, now)
		}
	}
	if now.Sub(s.swept) < time.Minute {
		return
	}
	s.swept = now
	if !s.asking {
		s.follow()
	}
	for name, d := range s.to {
		if d.active == 0 && len(d.waiting) == 0 && !d.lined && now.Sub(d.last) > forgetAfter && now.After(d.until.Add(forgetAfter)) {
			delete(s.to, name)
		}
	}
}

func (s *scheduler) snapshot(now time.Time) []Status {
	list := make([]Status, 0, len(s.to))
	for _, d := range s.to {
		list = append(list, d.status(now))
	}
	sortStatus(list)
	return list
}

func sortStatus(list []Status) {
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(b.Active+b.Ahead, a.Active+a.Ahead), cmp.Compare(a.Destination, b.Destination))
	})
}
