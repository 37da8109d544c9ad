package pebble

import (
	"sync"
	"time"

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
	if free, total, err := q.o.Usage(); err == nil {
		kept := reserve(total, q.o.MaxSize)
		if kept += uint64(part * float64(kept)); free < kept+uint64(max(size, 0)) {
			return queue.ErrFull
		}
	}
	_, done, err := q.use()
	if err != nil {
		return err
	}
	done()
	return nil
}
