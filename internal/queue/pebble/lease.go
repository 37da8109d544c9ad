package pebble

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern/internal/queue"
)

// Lease implements queue.Supply.
func (q *Queue) Lease(ctx context.Context, a queue.Ask) ([]queue.Lease, error) {
	s, done, err := q.use()
	if err != nil {
		return nil, err
	}
	defer done()
	q.mu.Lock()
	given := q.x.lease(a)
	q.mu.Unlock()
	var list []queue.Lease
	for i, l := range given {
		if err = context.Cause(ctx); err != nil {
			q.takeBack(given[i:])
			break
		}
		m, which, err := q.contents(s, l, nanos(a.Now))
		if err != nil {
			q.takeBack(given[i:])
			return list, err
		}
		if len(which) == 0 {
			continue
		}
		list = append(list, queue.Lease{Owner: a.Owner, Token: l.token, Until: a.Until, Destination: l.unit.to.name, Message: m, Which: which})
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}

func (q *Queue) takeBack(list []*lease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range list {
		if q.x.leases[l.token] == l {
			q.x.giveBack(l)
		}
	}
}

// contents reads what a lease is for. If nothing of it may leave, because the
// message was changed, deleted or found damaged at this moment, the lease is
// over and the list empty.
func (q *Queue) contents(s *store, l *lease, now int64) (queue.Message, []queue.Which, error) {
	k := l.unit.entry.key
	lock := q.lock(k)
	lock.Lock()
	defer lock.Unlock()
	r, err := q.record(s, k)
	if errors.Is(err, errRecord) {
		err = q.setAside(s, k, err)
	}
	switch {
	case errors.Is(err, queue.ErrNoSuchID):
		q.mu.Lock()
		defer q.mu.Unlock()
		q.x.drop(k)
		return queue.Message{}, nil, nil
	case err != nil:
		return queue.Message{}, nil, err
	}
	var which []queue.Which
	for i := range r.To {
		for j := range r.To[i].Goes {
			d := &r.To[i].Goes[j]
			if d.State == queue.Waiting && nanos(d.Next) <= now && d.Destination() == l.unit.to.name && r.Hold == "" {
				which = append(which, queue.Which{Recipient: i, Index: j})
			}
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.x.leases[l.token] != l {
		return queue.Message{}, nil, nil
	}
	if len(which) == 0 {
		q.x.giveBack(l)
		return queue.Message{}, nil, nil
	}
	l.which = which
	kept := r
	l.unit.entry.kept = &kept
	r.State = queue.Active
	return r.Message, which, nil
}

// record returns what is stored of a message. While something of it is leased
// it is kept here, since it will soon be asked for again. The caller must not
// change what it points to, and holds the lock of the message if it goes on to
// change the message.
func (q *Queue) record(s *store, k key) (record, error) {
	q.mu.Lock()
	if e := q.x.entries[k]; e != nil && e.kept != nil {
		defer q.mu.Unlock()
		return *e.kept, nil
	}
	q.mu.Unlock()
	return s.record(k)
}

// clone returns a record that may be changed.
func (r *record) clone() record {
	c := *r
	c.To = slices.Clone(r.To)
	for i := range c.To {
		c.To[i].Goes = slices.Clone(c.To[i].Goes)
	}
	return c
}

// mine returns the lease that l is, if it is still out.
func (q *Queue) mine(l queue.Lease) (*lease, error) {
	out := q.x.leases[l.Token]
	if out == nil || out.unit.entry.key.String() != l.Message.ID || out.unit.to.name != l.Destination {
		return nil, queue.ErrLeaseLost
	}
	return out, nil
}

// Settle implements queue.Supply. What is for good is synced, so that a power
// loss sends nothing twice; a deferral is not: losing it means to try sooner.
func (q *Queue) Settle(ctx context.Context, l queue.Lease, outcomes ...queue.Outcome) (left int, err error) {
	if len(outcomes) == 0 {
		return l.Message.Left(), q.Return(ctx, l)
	}
	sync := false
	for _, o := range outcomes {
		sync = sync || o.State != queue.Waiting
	}
	err = q.edit(keyOf(l.Message.ID), sync, func(r *record) ([]queue.Event, bool, error) {
		q.mu.Lock()
		out, err := q.mine(l)
		q.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
		for _, o := range outcomes {
			if !out.has(o.Which) {
				return nil, false, queue.ErrLeaseLost
			}
		}
		if err := r.Apply(outcomes); err != nil {
			return nil, false, err
		}
		left = r.Left()
		return queue.Events(outcomes), left > 0, nil
	}, func(x *index) {
		if out, err := q.mine(l); err == nil {
			x.end(out)
		}
	})
	return left, err
}

func (l *lease) has(w queue.Which) bool {
	for _, mine := range l.which {
		if mine == w {
			return true
		}
	}
	return false
}

// Extend implements queue.Supply.
func (q *Queue) Extend(_ context.Context, l queue.Lease, until time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	out, err := q.mine(l)
	if err != nil {
		return err
	}
	out.until = nanos(until)
	q.x.ending.fix(out.at)
	return nil
}

// Return implements queue.Supply.
func (q *Queue) Return(_ context.Context, l queue.Lease) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	out, err := q.mine(l)
	if err != nil {
		return err
	}
	q.x.giveBack(out)
	q.wake()
	return nil
}

// Next implements queue.Supply.
func (q *Queue) Next(_ context.Context, except []string) (time.Time, bool, error) {
	_, done, err := q.use()
	if err != nil {
		return time.Time{}, false, err
	}
	defer done()
	q.mu.Lock()
	defer q.mu.Unlock()
	n, ok := q.x.next(except)
	return moment(n), ok, nil
}
