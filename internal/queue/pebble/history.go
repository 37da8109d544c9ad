package pebble

import (
	"context"
	"slices"
	"time"

	"postern/internal/queue"
)

// Life implements queue.History.
func (q *Queue) Life(ctx context.Context, id string) (queue.Life, error) {
	m, err := q.Show(ctx, id)
	return queue.Life{Message: m}, err
}

// Find implements queue.History.
func (q *Queue) Find(ctx context.Context, f queue.Search, p queue.Page) (list []queue.Life, next string, err error) {
	s, done, err := q.use()
	if err != nil {
		return nil, "", err
	}
	defer done()
	err = scan(s.db, messageKey, nil, func(k, v []byte) (bool, error) {
		r, err := parseAt(k, v)
		if err == nil && f.Match(&r.Message) && (p.After == "" || r.ID < p.After) {
			list = append(list, queue.Life{Message: r.Message})
		}
		return true, context.Cause(ctx)
	})
	slices.Reverse(list)
	if len(list) > p.Size() {
		list = list[:p.Size()]
		next = list[len(list)-1].Message.ID
	}
	return list, next, err
}

// Forget implements queue.History: what has left the queue is not kept.
func (q *Queue) Forget(context.Context, time.Time) error { return nil }
