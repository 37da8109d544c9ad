package pebble

import (
	"context"
	"errors"
	"sync"
	"time"

	"postern/internal/queue"
)

// each changes messages one by one, and returns after the last is stable. What
// happened to each is entered in its history; nothing, if it has no kind.
func (q *Queue) each(ctx context.Context, ids []string, what queue.Event, change func(*record) (keep bool)) (n int, err error) {
	return q.eachThat(ctx, ids, what, func(r *record) (bool, bool) { return true, change(r) })
}

// errPassed says that a message is not one of those that are to be changed.
var errPassed = errors.New("nothing is to be changed")

// eachThat does as each, of those that are changed.
func (q *Queue) eachThat(ctx context.Context, ids []string, what queue.Event, change func(*record) (changed, keep bool)) (n int, err error) {
	var happened []queue.Event
	if what.Kind != 0 {
		what.At = time.Now()
		happened = append(happened, what)
	}
	for _, id := range ids {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		err := q.edit(keyOf(id), false, func(r *record) ([]queue.Event, bool, error) {
			changed, keep := change(r)
			if !changed {
				return nil, true, errPassed
			}
			return happened, keep, nil
		})
		if errors.Is(err, queue.ErrNoSuchID) || errors.Is(err, errPassed) {
			continue
		}
		if err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, nil
	}
	return n, q.sync()
}

// sync makes all that was committed stable.
func (q *Queue) sync() error {
	s, done, err := q.use()
	if err != nil {
		return err
	}
	defer done()
	b := s.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return err
	}
	return s.commit(b, true)
}

// edit reads a record, changes it and writes it back with what happened, or
// moves the message from the queue to the history. In the index, after it was
// committed, first is called before the record is entered.
func (q *Queue) edit(k key, stable bool, change func(*record) (happened []queue.Event, keep bool, err error), first ...func(*index)) error {
	s, done, err := q.use()
	if err != nil {
		return err
	}
	defer done()
	lock := q.lock(k)
	lock.Lock()
	defer lock.Unlock()
	r, err := q.record(s, k)
	if errors.Is(err, errRecord) {
		return q.setAside(s, k, err)
	}
	if err != nil {
		return err
	}
	r = r.clone()
	happened, keep, err := change(&r)
	if err != nil {
		return err
	}
	b := s.db.NewBatchWithSize(2 << 10)
	if keep {
		err = errors.Join(r.enter(b, happened), b.Set(k.at(messageKey), r.appendTo(nil), nil))
	} else {
		err = s.retire(b, &r, happened, time.Now())
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.commit(b, stable); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.x.entries[k]; e != nil {
		e.kept = nil
	}
	for _, do := range first {
		do(q.x)
	}
	if !keep {
		q.x.drop(k)
	} else if q.x.put(&r.Message) {
		q.wake()
	}
	return nil
}

// lock returns the lock of a message. The last two characters of an id are of chance.
func (q *Queue) lock(k key) *sync.Mutex {
	return &q.locks[(uint(k[14])*32+uint(k[15]))%uint(len(q.locks))]
}

// setAside moves aside what should be a record and is none, found while
// running. It is no message any more.
func (q *Queue) setAside(s *store, k key, bad error) error {
	v, ok, err := s.get(k.at(messageKey))
	if err != nil || !ok {
		return errors.Join(err, queue.ErrNoSuchID)
	}
	b := s.db.NewBatch()
	err = moveAside(b, k.at(messageKey), v)
	if err == nil {
		err = s.commit(b, true)
	}
	if err != nil {
		return err
	}
	q.o.Report(q.asideProblem(k.at(messageKey), bad))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.corrupt++
	q.x.drop(k)
	return queue.ErrNoSuchID
}
