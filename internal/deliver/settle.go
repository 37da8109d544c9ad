package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/bounce"
	"postern/internal/queue"
)

// settle tells the queue what became of a lease, and who sent the message what
// they must know, in this order: a notice that is sent twice is better than
// one that is lost.
func (j *job) settle(ctx context.Context) (sums Sums) {
	if len(j.outcomes) == 0 {
		_ = j.d.o.Queue.Return(ctx, j.lease) // it ends by itself if it cannot be given back
		return sums
	}
	m := &j.lease.Message
	if err := j.insist(ctx, j.notify); err != nil {
		j.unnotified(err)
	}
	if err := j.insist(ctx, func(ctx context.Context) error {
		_, err := j.d.o.Queue.Settle(ctx, j.lease, j.outcomes...)
		if err != nil {
			err = fmt.Errorf("settle message %s: %w", m.ID, err)
		}
		return err
	}); err != nil {
		return sums
	}
	for _, o := range j.outcomes {
		d := m.Delivery(o.Which)
		if !o.Untried {
			switch o.State {
			case queue.Delivered:
				sums.Delivered++
			case queue.Failed:
				sums.Failed++
			case queue.Waiting:
				sums.Deferred++
			case queue.Withheld:
			}
		}
		r := m.To[o.Recipient]
		j.d.o.Watch(Event{
			Message: m.ID, Destination: j.lease.Destination, From: m.From, To: d.To, Grant: r.Grant, Origin: m.Origin,
			Size: m.Size, Attempts: d.Attempts + 1, Class: classOf(o), Outcome: o,
		})
	}
	return sums
}

// insist does something until the disk takes it, or the lease is over. What a
// server has taken must not be sent again because the disk failed for a moment
// (RFC 1047), and who sent it must be told.
func (j *job) insist(ctx context.Context, do func(context.Context) error) error {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		j.d.o.Report(err)
		if !errors.Is(err, queue.ErrBroken) || time.Now().Add(wait).After(j.lease.Until) || !sleep(j.d.failed, wait) {
			return err
		}
	}
}

// sleep waits, and reports false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// delayUntold ends the note of a delivery of whose delay somebody must yet be
// told.
const delayUntold = "the notice of its delay could not be stored"

// unnotified puts off what failed for good: whoever sent it could not be told.
// Of a delay they are told after the next attempt.
func (j *job) unnotified(err error) {
	for i := range j.outcomes {
		switch o := &j.outcomes[i]; {
		case j.told[told{bounce.Failed, o.Which}] || j.told[told{bounce.Delayed, o.Which}]:
		case o.State == queue.Failed:
			o.State, o.Next = queue.Waiting, time.Now().Add(steps[0])
			o.Note = "the notice of its failure could not be stored: " + err.Error()
		case j.concerns(bounce.Delayed, *o):
			o.Note = strings.TrimPrefix(o.Note+"; "+delayUntold, "; ")
		}
	}
}
