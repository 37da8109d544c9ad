package pebble

import (
	"context"
	"fmt"
	"time"

	"postern/internal/queue"
)

// Shift implements queue.Supply.
func (q *Queue) Shift(ctx context.Context, now time.Time, by, longest time.Duration) (n int, err error) {
	q.mu.Lock()
	q.x.shift(by)
	var keys []key
	if by != 0 || q.x.newest > nanos(now) || q.x.ahead(nanos(now.Add(longest))) {
		keys = make([]key, 0, len(q.x.entries))
		for k := range q.x.entries {
			keys = append(keys, k)
		}
	}
	q.x.newest = min(q.x.newest, nanos(now))
	q.mu.Unlock()
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.String()
	}
	note := "its times were put right"
	if by != 0 {
		note = fmt.Sprintf("the clock was set by %v", by.Round(time.Second))
	}
	return q.eachThat(ctx, ids, queue.Event{Kind: queue.WasRetried, Note: note}, func(r *record) (changed, keep bool) {
		return r.shift(now, by, longest), true
	})
}

// shift moves the times of a record; what still lies ahead of now, or waits for
// longer than anything does, was written by a clock that was wrong. It reports
// whether it changed anything.
func (r *record) shift(now time.Time, by, longest time.Duration) (changed bool) {
	move := func(t *time.Time) {
		if by != 0 && !t.IsZero() {
			*t, changed = t.Add(by), true
		}
	}
	past := func(t *time.Time) (was bool) {
		if was = t.After(now); was {
			*t, changed = now, true
		}
		return was
	}
	move(&r.Expires)
	move(&r.Origin.At)
	past(&r.Origin.At)
	for i := range r.To {
		for j := range r.To[i].Goes {
			d := &r.To[i].Goes[j]
			move(&d.At)
			move(&d.Next)
			if past(&d.At) || d.Next.After(now.Add(longest)) {
				d.Next, changed = time.Time{}, true
			}
		}
	}
	return changed
}

// shift moves the ends of leases. One that ends too late harms nobody: its
// owner lives in this process. One that ends too early is given out twice.
func (x *index) shift(by time.Duration) {
	if by <= 0 {
		return
	}
	for _, l := range x.leases { // their order stays
		l.until += int64(by)
	}
}

// ahead reports whether anything waits for longer than until then.
func (x *index) ahead(then int64) bool {
	for _, d := range x.to {
		for u := range d.units {
			if u.next > then {
				return true
			}
		}
	}
	return false
}
