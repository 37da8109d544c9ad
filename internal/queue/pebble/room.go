package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"postern/internal/problem"

	"postern/internal/queue"
)

// leastReserve is what stays free on any disk: room for the library's logs and
// tables, which need it before they give room back.
const leastReserve = 256 << 20

// reserve returns how much of a disk must stay free: a tenth, or more if that
// is little.
func reserve(total uint64, maxSize int64) uint64 {
	return max(total/10, leastReserve, uint64(maxSize)+uint64(maxSize)/2)
}

// usageCounts is how long the disk is not asked again: what is written in that
// time is far less than the reserve.
const usageCounts = 100 * time.Millisecond

func remembered(ask func() (free, total uint64, err error)) func() (uint64, uint64, error) {
	var mu sync.Mutex
	var free, total uint64
	var err error
	var at time.Time
	return func() (uint64, uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(at) > usageCounts || now.Before(at) {
			free, total, err = ask()
			at = now
		}
		return free, total, err
	}
}

// Room implements queue.Intake.
func (q *Queue) Room(size int64) error { return q.above(0, size) }

// Spare implements queue.Intake: strangers leave half as much again free.
func (q *Queue) Spare(size int64) error { return q.above(0.5, size) }

// above says why a message must not be stored if the reserve, and such a part
// of it again, is to stay free.
func (q *Queue) above(part float64, size int64) error {
	if q.o.MaxSize > 0 && size > q.o.MaxSize {
		return queue.ErrTooLarge
	}
	free, total, err := q.o.Usage()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return broken(fmt.Errorf("the folder of the queue is gone: %w", err))
	case err == nil && q.short(free, total, part, size):
		return queue.ErrFull
	}
	_, done, err := q.use()
	if err != nil {
		return err
	}
	done()
	return nil
}

// short reports whether a message has no room, tells the operator when that
// changes, and sees to it that room which nobody needs comes back.
func (q *Queue) short(free, total uint64, part float64, size int64) bool {
	kept := reserve(total, q.o.MaxSize)
	more := kept + kept/2 // what strangers leave free
	need := kept + uint64(part*float64(kept)) + uint64(max(size, 0))
	if free >= max(need, more) {
		q.room.tell(q, roomy, free, total, kept)
		return false
	}
	// What we hold without need is as good as free: logs to be written again.
	free += q.spent()
	switch {
	case free < kept:
		q.room.tell(q, full, free, total, kept)
	case free < more:
		q.room.tell(q, scarce, free, total, kept)
	default:
		q.room.tell(q, roomy, free, total, kept)
	}
	if free < max(need, more) {
		q.reclaim()
	}
	return free < need
}

// spent returns the octets of logs of which nothing is needed any more.
func (q *Queue) spent() uint64 {
	s, done, err := q.use()
	if err != nil {
		return 0
	}
	defer done()
	return s.db.Metrics().WAL.ObsoletePhysicalSize
}

// How much room there is.
type plenty uint8

const (
	roomy  plenty = iota
	scarce        // strangers are refused
	full          // all are
)

// room is what is known and done about a disk that fills.
type room struct {
	mu     sync.Mutex
	told   plenty
	toldAt time.Time
	busy   bool          // room is being made
	begun  time.Time     // when it was last
	took   time.Duration // how long
	octets int64         // what the queue held then
}

// tell reports once that it became fuller, and at most once a minute that it
// became less full: at the border it goes to and fro.
func (r *room) tell(q *Queue, now plenty, free, total, kept uint64) {
	r.mu.Lock()
	if now == r.told || now < r.told && time.Since(r.toldAt) < time.Minute {
		r.mu.Unlock()
		return
	}
	r.told, r.toldAt = now, time.Now()
	r.mu.Unlock()
	const mib = 1 << 20
	at := problem.Pos{File: q.o.Dir}
	is := fmt.Sprintf("the disk has %d MiB free of %d MiB, and %d MiB are kept free for the queue's own work", free/mib, total/mib, kept/mib)
	switch now {
	case full:
		q.o.Report(problem.Warn(at, is+": all mail is answered 452 until there is more", "make room, or put the state on a larger disk"))
	case scarce:
		q.o.Report(problem.Warn(at, is+": strangers' mail is answered 452, since less than half as much again is left", "make room, or put the state on a larger disk"))
	case roomy:
		q.o.Report(problem.Warn(at, is+": mail is taken again", ""))
	}
}

// reclaimPause is how long nothing is done again when nothing has left since.
const reclaimPause = time.Minute

// reclaim gives back the room of what has left. A message that leaves is a note
// in memory that it did; its octets go when that note is written and tables are
// merged, which the library does when enough new ones come. On a full disk none
// come: we refuse them. So this is done here, beside those who ask.
func (q *Queue) reclaim() {
	q.mu.Lock()
	octets := q.x.octets
	q.mu.Unlock()
	r := &q.room
	r.mu.Lock()
	defer r.mu.Unlock()
	pause := reclaimPause
	if octets < r.octets {
		pause = max(time.Second, 5*r.took)
	}
	if r.busy || q.stopped.Err() != nil || !r.begun.IsZero() && time.Since(r.begun) < pause {
		return
	}
	r.busy, r.begun, r.octets = true, time.Now(), octets
	q.helpers.Go(func() {
		err := q.merge()
		r.mu.Lock()
		r.busy, r.took = false, time.Since(r.begun)
		r.mu.Unlock()
		if err != nil && !errors.Is(err, context.Canceled) {
			q.o.Report(fmt.Errorf("queue store: room of what has left: %w", err))
		}
	})
}

// merge writes what is in memory to tables, and merges all of them.
func (q *Queue) merge() error {
	s, done, err := q.use()
	if err != nil {
		return nil //nolint:nilerr // it is told of elsewhere
	}
	defer done()
	ctx, cancel := context.WithCancel(q.stopped)
	defer cancel()
	q.helpers.Go(func() { // nobody waits for the merging of a store that fell
		select {
		case <-s.fence.fallen:
			cancel()
		case <-ctx.Done():
		}
	})
	if err := s.db.Flush(); err != nil {
		return err
	}
	return s.db.Compact(ctx, []byte{0}, []byte{0xff}, false)
}
