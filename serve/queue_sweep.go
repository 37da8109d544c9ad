package serve

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"postern/internal/deliver"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// A Batch is what was done to messages, or how many there are.
type Batch struct {
	Messages int    `json:"messages"`
	Notices  int    `json:"notices,omitempty"` // that were sent about these
	Next     string `json:"next,omitempty"`    // there is more: the value of after for the following call

	Stay   int              `json:"stay,omitempty"`   // that could not be released
	Kept   []Kept           `json:"kept,omitempty"`   // some of these, and why
	Lifted []deliver.Status `json:"lifted,omitempty"` // destinations that were left alone, and are asked again
	Newest time.Time        `json:"newest,omitzero"`  // of those that were counted, or now
}

// A verb is what an operator does to messages.
type verb func(ctx context.Context, ids ...string) (int, error)

// verbs returns what can be done to messages. b takes what is to be said of it
// beside their number.
func (r *Relay) verbs(b *Batch) map[string]verb {
	return map[string]verb{
		"hold": func(ctx context.Context, ids ...string) (int, error) {
			return r.queue.Hold(ctx, "held by the operator", ids...)
		},
		"release": r.release(b), "retry": r.retry(b), "delete": r.queue.Delete,
		"count": func(_ context.Context, ids ...string) (int, error) { return len(ids), nil },
	}
}

// filterOf reads the words by which messages are chosen. A word that can mean
// nothing is said to be wrong: an empty list would say that nothing waits.
func (r *Relay) filterOf(v url.Values) (f queue.Filter, err error) {
	f = queue.Filter{Destination: v.Get("destination"), Reason: v.Get("grant"), Who: v.Get("who"), Reply: v.Get("reply")}
	if s := v.Get("state"); s != "" {
		state, ok := queue.ParseState(s)
		if !ok {
			return f, usage(fmt.Errorf("no state is called %q; %s", s, problem.Meant(s, stateNames())))
		}
		f.State = state
	}
	if f.From, err = addressOf("from", v.Get("from")); err != nil {
		return f, err
	}
	if f.To, err = addressOf("to", v.Get("to")); err != nil {
		return f, err
	}
	if f.Destination != "" {
		d, err := mail.ParseDomain(f.Destination) // as people write it
		if err != nil {
			return f, usage(fmt.Errorf("destination: %q is no domain: %w", f.Destination, err))
		}
		f.Destination = d.ASCII()
	}
	if s := f.Reason; s != "" && !slices.Contains(reasonNames(), s) {
		return f, usage(fmt.Errorf("no grant has the reason %q; %s", s, problem.Meant(s, reasonNames())))
	}
	for name, at := range map[string]*time.Time{"before": &f.Before, "since": &f.After} {
		if s := v.Get(name); s != "" {
			if *at, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return f, usage(fmt.Errorf("%s: %q is no time of RFC 3339", name, s))
			}
		}
	}
	return f, r.knows(f.Who)
}

func stateNames() (list []string) {
	for _, s := range queue.States() {
		list = append(list, s.String())
	}
	return list
}

func reasonNames() (list []string) {
	for _, s := range policy.Reasons() {
		list = append(list, s.String())
	}
	return list
}

// addressOf reads an address, all of a domain as @example.org, the null
// reverse-path, or postmaster, with or without angle brackets.
func addressOf(name, s string) (string, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	if s == "" || s == "<>" || strings.EqualFold(bare, "postmaster") {
		return s, nil
	}
	var err error
	if domain, all := strings.CutPrefix(bare, "@"); all {
		_, err = mail.ParseDomain(domain)
	} else {
		_, err = mail.ParseAddress(bare)
	}
	if err != nil {
		return "", usage(fmt.Errorf("%s: %q is no address; write anna@example.org, @example.org for a whole domain, or <> for the null reverse-path", name, s))
	}
	return bare, nil
}

// knows returns an error for a name that nobody has or had.
func (r *Relay) knows(who string) error {
	if who == "" {
		return nil
	}
	source := r.current.Load().policy.Source()
	var names []string
	for _, u := range source.Users {
		names = append(names, u.Name)
	}
	for _, t := range source.Trusted {
		names = append(names, t.Name)
	}
	for _, d := range source.Domains {
		names = append(names, d.Name.ASCII())
	}
	_, _, disabled := storedUsers(r.users)
	names = append(names, disabled...)
	if slices.Contains(names, who) {
		return nil
	}
	// Whoever is gone may have left something that waits.
	list, _, err := r.queue.List(context.Background(), queue.Filter{Who: who}, queue.Page{Max: 1})
	if err == nil && len(list) == 0 {
		slices.Sort(names)
		err = usage(fmt.Errorf("nobody is called %q, and nothing of such a one waits; %s", who, problem.Meant(who, names)))
	}
	return err
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
func (r *Relay) batch(ctx context.Context, v url.Values, word string) (Batch, error) {
	var said Batch
	do := r.verbs(&said)[word]
	if ids := v["id"]; len(ids) > 0 {
		n, err := do(ctx, ids...)
		said.Messages = n
		return said, err
	}
	f, err := r.filterOf(v)
	if err != nil {
		return Batch{}, err
	}
	if f == (queue.Filter{}) && v.Get("all") == "" {
		return Batch{}, errAll
	}
	b, err := r.sweep(ctx, f, v.Get("after"), nil, do)
	said.Messages, said.Next, said.Newest = b.Messages, b.Next, b.Newest
	return said, err
}

// sweep does something to the messages that pass, in the order of their age,
// for a while. pass nil: all that pass the filter.
func (r *Relay) sweep(ctx context.Context, f queue.Filter, after string, pass func(*queue.Message) bool, do verb) (b Batch, err error) {
	began := time.Now()
	for b.Newest = began; ; {
		list, next, err := r.list(ctx, f, queue.Page{After: after, Max: batchPage})
		if err != nil {
			return b, err
		}
		ids := make([]string, 0, len(list))
		for i := range list {
			if pass == nil || pass(&list[i]) {
				ids = append(ids, list[i].ID)
			}
			if at := list[i].Origin.At; at.After(b.Newest) {
				b.Newest = at // by a clock that was wrong
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
