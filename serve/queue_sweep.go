package serve

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"postern/internal/queue"
	"postern/mail"
)

// A Batch is what was done to messages, or how many there are.
type Batch struct {
	Messages int    `json:"messages"`
	Notices  int    `json:"notices,omitempty"` // that were sent about these
	Next     string `json:"next,omitempty"`    // there is more: the value of after for the following call
}

// A verb is what an operator does to messages.
type verb func(ctx context.Context, ids ...string) (int, error)

func (r *Relay) verbs() map[string]verb {
	return map[string]verb{
		"hold": func(ctx context.Context, ids ...string) (int, error) {
			return r.queue.Hold(ctx, "held by the operator", ids...)
		},
		"release": r.queue.Release, "retry": r.queue.Retry, "delete": r.queue.Delete,
		"count": func(_ context.Context, ids ...string) (int, error) { return len(ids), nil },
	}
}

// filterOf reads the words by which messages are chosen.
func filterOf(v url.Values) (f queue.Filter, err error) {
	f = queue.Filter{From: v.Get("from"), To: v.Get("to"), Destination: v.Get("destination"), Reason: v.Get("grant"), Who: v.Get("who"), Reply: v.Get("reply")}
	if s := v.Get("state"); s != "" {
		state, ok := queue.ParseState(s)
		if !ok {
			return f, fmt.Errorf("no state is called %q; there are %v", s, queue.States())
		}
		f.State = state
	}
	if d, err := mail.ParseDomain(f.Destination); err == nil {
		f.Destination = d.ASCII() // as people write it
	}
	for name, at := range map[string]*time.Time{"before": &f.Before, "since": &f.After} {
		if s := v.Get(name); s != "" {
			if *at, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return f, fmt.Errorf("%s: %q is no time of RFC 3339", name, s)
			}
		}
	}
	return f, nil
}

// most of one call: what follows is asked for by the next, so that no call
// takes longer than its caller waits, and who stops has stopped.
const (
	batchFor  = 5 * time.Second
	batchPage = 1000
)

var errAll = errors.New("no word chooses messages; say all=1 for all")

// batch does something to all messages that pass the filter of a query, for a
// while. The messages themselves do not travel.
func (r *Relay) batch(ctx context.Context, v url.Values, do verb) (Batch, error) {
	f, err := filterOf(v)
	if err != nil {
		return Batch{}, err
	}
	if f == (queue.Filter{}) && v.Get("all") == "" {
		return Batch{}, errAll
	}
	return r.sweep(ctx, f, v.Get("after"), nil, do)
}

// sweep does something to the messages that pass, in the order of their age,
// for a while. pass nil: all that pass the filter.
func (r *Relay) sweep(ctx context.Context, f queue.Filter, after string, pass func(*queue.Message) bool, do verb) (b Batch, err error) {
	for began := time.Now(); ; {
		list, next, err := r.list(ctx, f, queue.Page{After: after, Max: batchPage})
		if err != nil {
			return b, err
		}
		ids := make([]string, 0, len(list))
		for i := range list {
			if pass == nil || pass(&list[i]) {
				ids = append(ids, list[i].ID)
			}
		}
		if len(ids) > 0 {
			n, err := do(ctx, ids...)
			if b.Messages += n; err != nil {
				return b, err
			}
		}
		if next == "" {
			return b, nil
		}
		if after = next; time.Since(began) > batchFor {
			b.Next = next
			return b, nil
		}
	}
}

// fewEnough is how many messages a queue may find by its index for one page: it
// looks for them and sorts them all for each. Where there are more, reading the
// records one after the other is faster, and costs each page the same.
const fewEnough = 20 * batchPage

// list is queue.Desk.List, also for a filter that most of a large queue passes.
func (r *Relay) list(ctx context.Context, f queue.Filter, p queue.Page) ([]queue.Message, string, error) {
	return r.listBy(ctx, f, p, fewEnough)
}

func (r *Relay) listBy(ctx context.Context, f queue.Filter, p queue.Page, few int) ([]queue.Message, string, error) {
	index := f
	if f.State == queue.Held || f.State == queue.Active {
		stats, err := r.queue.Stats(ctx)
		if err != nil {
			return nil, "", err
		}
		if stats.Messages[f.State] > few {
			index.State = 0
		}
	}
	if f.Destination != "" {
		list, err := r.destinations(ctx)
		if err != nil {
			return nil, "", err
		}
		i := slices.IndexFunc(list, func(d queue.Destination) bool { return d.Name == f.Destination })
		if i >= 0 && list[i].Messages > few {
			index.Destination = ""
		}
	}
	if index == f {
		return r.queue.List(ctx, f, p)
	}
	size := p.Size()
	var kept []queue.Message
	for p.Max = max(size, batchPage); ; {
		list, next, err := r.queue.List(ctx, index, p)
		if err != nil {
			return nil, "", err
		}
		for i := range list {
			if !f.Match(&list[i]) {
				continue
			}
			if kept = append(kept, list[i]); len(kept) == size && (next != "" || i < len(list)-1) {
				return kept, list[i].ID, nil
			}
		}
		if next == "" {
			return kept, "", nil
		}
		p.After = next
	}
}

// destinations are those of the queue, as they are or were a moment ago: the
// queue stands still while it counts them, and a view that is drawn each
// second must not take more than a part of it.
func (r *Relay) destinations(ctx context.Context) ([]queue.Destination, error) {
	c := &r.traffic.counted
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	if began.Before(c.until) {
		return c.list, nil
	}
	list, err := r.queue.Destinations(ctx)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	c.list, c.until = list, began.Add(20*took)
	return list, nil
}
