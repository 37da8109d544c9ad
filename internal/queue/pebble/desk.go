package pebble

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"postern/internal/queue"
)

// Show implements queue.Desk.
func (q *Queue) Show(_ context.Context, id string) (queue.Message, error) {
	s, done, err := q.use()
	if err != nil {
		return queue.Message{}, err
	}
	defer done()
	r, err := s.record(keyOf(id))
	if err != nil {
		return queue.Message{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	r.State = q.stateOf(&r)
	return r.Message, nil
}

func (q *Queue) stateOf(r *record) queue.State {
	if e := q.x.entries[keyOf(r.ID)]; e != nil {
		return e.shown
	}
	return r.Rest()
}

// List implements queue.Desk. Where the index knows all that can pass, only
// that is read; otherwise the records are read one after the other.
func (q *Queue) List(ctx context.Context, f queue.Filter, p queue.Page) (list []queue.Message, next string, err error) {
	s, done, err := q.use()
	if err != nil {
		return nil, "", err
	}
	defer done()
	add := func(r *record) (more bool) {
		q.mu.Lock()
		r.State = q.stateOf(r)
		q.mu.Unlock()
		if !f.Match(&r.Message) {
			return true
		}
		if len(list) == p.Size() { // one more than a page: there is a next
			next = list[len(list)-1].ID
			return false
		}
		list = append(list, r.Message)
		return true
	}
	if keys, ok := q.candidates(f, p); ok {
		for _, k := range keys {
			if err := context.Cause(ctx); err != nil {
				return nil, "", err
			}
			r, err := s.record(k)
			if errors.Is(err, queue.ErrNoSuchID) || errors.Is(err, errRecord) {
				continue
			}
			if err != nil {
				return nil, "", err
			}
			if !add(&r) {
				break
			}
		}
		return list, next, nil
	}
	from := keyOf(p.After).at(messageKey)
	err = scan(s.db, messageKey, from, func(k, v []byte) (bool, error) {
		if p.After != "" && string(k[1:]) == p.After {
			return true, context.Cause(ctx)
		}
		r, err := parseAt(k, v)
		if err != nil {
			return true, nil //nolint:nilerr // it is moved aside when it is to leave, or at the next start
		}
		return add(&r), context.Cause(ctx)
	})
	return list, next, err
}

// candidates returns the keys after the page's start, in order, of all that can
// pass, if the index knows it.
func (q *Queue) candidates(f queue.Filter, p queue.Page) ([]key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var keys []key
	take := func(k key) {
		if k.String() > p.After {
			keys = append(keys, k)
		}
	}
	switch {
	case f.Destination != "":
		if d := q.x.to[f.Destination]; d != nil {
			for u := range d.units {
				take(u.entry.key)
			}
		}
	case f.State == queue.Held || f.State == queue.Active:
		for k, e := range q.x.entries {
			if e.shown == f.State {
				take(k)
			}
		}
	default:
		return nil, false
	}
	slices.SortFunc(keys, func(a, b key) int { return strings.Compare(string(a[:]), string(b[:])) })
	return keys, true
}

// Hold implements queue.Desk.
func (q *Queue) Hold(ctx context.Context, why string, ids ...string) (int, error) {
	if why == "" {
		return 0, errors.New("say why the messages are held")
	}
	return q.each(ctx, ids, queue.Event{Kind: queue.WasHeld, Note: why}, func(r *record) bool {
		r.Hold = why
		return true
	})
}

// Release implements queue.Desk.
func (q *Queue) Release(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, queue.Event{Kind: queue.WasReleased}, func(r *record) bool {
		r.Hold = ""
		r.now(queue.Waiting, queue.Withheld)
		return true
	})
}

// Retry implements queue.Desk.
func (q *Queue) Retry(ctx context.Context, ids ...string) (int, error) {
	return q.each(ctx, ids, queue.Event{Kind: queue.WasRetried}, func(r *record) bool {
		r.now(queue.Waiting)
		return true
	})
}

// now makes the deliveries in one of these states due at once.
func (r *record) now(states ...queue.DeliveryState) {
	for i := range r.To {
		for j := range r.To[i].Goes {
			if d := &r.To[i].Goes[j]; slices.Contains(states, d.State) {
				d.State, d.Next = queue.Waiting, time.Time{}
			}
		}
	}
}

// Change implements queue.Desk.
func (q *Queue) Change(ctx context.Context, c queue.Change, ids ...string) (int, error) {
	if c.Lane != nil && *c.Lane > queue.Bulk {
		return 0, errors.New("there is no such lane")
	}
	return q.each(ctx, ids, queue.Event{}, func(r *record) bool {
		if c.Expires != nil {
			r.Expires = *c.Expires
		}
		if c.Lane != nil {
			r.Lane = *c.Lane
		}
		return true
	})
}

// Delete implements queue.Desk. It also takes ids of what was moved aside.
func (q *Queue) Delete(ctx context.Context, ids ...string) (int, error) {
	n, err := q.each(ctx, ids, queue.Event{Kind: queue.WasDeleted}, func(*record) (keep bool) { return false })
	if err != nil {
		return n, err
	}
	aside, err := q.deleteAside(ids)
	return n + aside, err
}

// Expire implements queue.Desk.
func (q *Queue) Expire(ctx context.Context, why string, ids ...string) (int, error) {
	return q.each(ctx, ids, queue.Event{Kind: queue.WasDeleted, Note: why}, func(*record) (keep bool) { return false })
}

// deleteAside removes records that were moved aside, and their bodies.
func (q *Queue) deleteAside(ids []string) (n int, err error) {
	s, done, err := q.use()
	if err != nil {
		return 0, err
	}
	defer done()
	b := s.db.NewBatch()
	for _, id := range ids {
		k := keyOf(id)
		if _, ok, err := s.get(k.at(corruptKey)); err != nil {
			return 0, err
		} else if !ok {
			continue
		}
		if err := errors.Join(b.Delete(k.at(corruptKey), nil), eraseBody(b, k)); err != nil {
			return 0, err
		}
		n++
	}
	if n == 0 {
		return 0, nil
	}
	if err := s.commit(b, true); err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.corrupt -= n
	return n, nil
}

// Stats implements queue.Desk.
func (q *Queue) Stats(context.Context) (queue.Stats, error) {
	s, done, err := q.use()
	if err != nil {
		return queue.Stats{}, err
	}
	defer done()
	q.mu.Lock()
	t := queue.Stats{Messages: make(map[queue.State]int), Octets: q.x.octets, Corrupt: q.corrupt}
	for _, state := range queue.States() {
		t.Messages[state] = q.x.states[state]
	}
	q.mu.Unlock()
	err = scan(s.db, messageKey, nil, func(k, _ []byte) (bool, error) {
		id, ok := keyIn(k)
		if ok {
			t.Oldest = queue.TimeOf(id.String())
		}
		return !ok, nil
	})
	return t, err
}

// Destinations implements queue.Desk.
func (q *Queue) Destinations(context.Context) ([]queue.Destination, error) {
	_, done, err := q.use()
	if err != nil {
		return nil, err
	}
	defer done()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.x.destinations(), nil
}
