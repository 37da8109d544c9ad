package serve

import (
	"cmp"
	"context"
	"slices"
	"time"

	"postern/internal/deliver"
	"postern/internal/meter"
	"postern/internal/queue"
)

// A Top is what the relay does now.
type Top struct {
	At           time.Time        `json:"at"`
	Rates        meter.Rates      `json:"rates"` // a second, over the last ten
	Messages     map[string]int   `json:"messages"`
	Destinations []TopDestination `json:"destinations"`   // those where most happens first
	More         int              `json:"more,omitempty"` // that were left off
	Breakouts    []meter.Breakout `json:"breakouts,omitempty"`
	Suspended    []Suspension     `json:"suspended,omitempty"`
	Headerless   []Headerless     `json:"headerless,omitempty"`
	Hold         string           `json:"hold,omitempty"`
}

// A TopDestination is what is done for one domain, and what waits for it.
type TopDestination struct {
	deliver.Status
	Messages int       `json:"messages"` // in the queue
	Held     int       `json:"held,omitempty"`
	Oldest   time.Time `json:"oldest,omitzero"` // when the oldest was accepted
	Reply    string    `json:"reply,omitempty"` // the last
}

// mostTop is how many destinations fit into what a person looks at.
const mostTop = 50

func (r *Relay) top(ctx context.Context) (Top, error) {
	now := time.Now()
	t := Top{
		At: now, Rates: r.traffic.Rates(now), Messages: map[string]int{}, Breakouts: r.traffic.Breakouts(),
		Suspended: r.suspended.now(), Headerless: r.headerless.now(), Hold: r.current.Load().settings.Hold,
	}
	stats, err := r.queue.Stats(ctx)
	if err != nil {
		return t, err
	}
	for _, s := range queue.States() {
		t.Messages[s.String()] = stats.Messages[s]
	}
	list, err := r.destinations(ctx)
	if err != nil {
		return t, err
	}
	// The deliverer answers when it runs; it may have been told to stop.
	soon, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	all := map[string]*TopDestination{}
	for _, s := range r.deliver.Snapshot(soon) {
		all[s.Destination] = &TopDestination{Status: s}
	}
	for _, d := range list {
		e := all[d.Name]
		if e == nil {
			e = &TopDestination{Status: deliver.Status{Destination: d.Name}}
			all[d.Name] = e
		}
		e.Messages, e.Held, e.Oldest, e.Reply = d.Messages, d.Held, queue.TimeOf(d.Oldest), d.Reply
	}
	t.Destinations = make([]TopDestination, 0, len(all))
	for _, e := range all {
		if e.Messages+e.Active+e.Ahead > 0 || !e.Blocked.IsZero() {
			t.Destinations = append(t.Destinations, *e)
		}
	}
	slices.SortFunc(t.Destinations, func(a, b TopDestination) int {
		return cmp.Or(cmp.Compare(b.Active, a.Active), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Destination, b.Destination))
	})
	if n := len(t.Destinations) - mostTop; n > 0 {
		t.More, t.Destinations = n, t.Destinations[:mostTop]
	}
	return t, nil
}
