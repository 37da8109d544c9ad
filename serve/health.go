package serve

import (
	"context"
	"fmt"
	"time"

	"postern/internal/queue"
)

// A Phase of a relay's life, for whoever started it.
type Phase uint8

// The phases.
const (
	Serving   Phase = iota // proved, audited, and clients are served
	Reloading              // the configuration is being read; clients are served all the while
	Stopping               // sessions come to their end
)

func (r *Relay) tell(p Phase) {
	if r.o.Phase != nil {
		r.o.Phase(p)
	}
}

// Healthy comes back, with nil, as long as the relay works: the queue knows
// whether there is room, and the control socket answers. It may hang when the
// relay does. A full disk is no reason to be started anew.
func (r *Relay) Healthy(ctx context.Context) error {
	_ = r.queue.Room(0) // what it says is the clients' affair: 452
	if _, err := r.queue.Stats(ctx); err != nil {
		return fmt.Errorf("the queue does not answer: %w", err)
	}
	if err := r.self.Get(ctx, "/status", &Status{}); err != nil {
		return fmt.Errorf("the control socket does not answer: %w", err)
	}
	return nil
}

// Summary says in a line how the relay is.
func (r *Relay) Summary(ctx context.Context) string {
	g := r.current.Load()
	text := "closed; " + count(len(g.settings.Listeners), "listener", "listeners")
	stats, err := r.queue.Stats(ctx)
	if err != nil {
		return text + "; the queue does not answer"
	}
	waiting := 0
	for _, s := range queue.States() {
		waiting += stats.Messages[s]
	}
	text += "; " + count(waiting, "message waits", "messages wait")
	if n := len(r.traffic.Breakouts()); n > 0 {
		text += fmt.Sprintf("; breakouts held: %d (postern release)", n)
	}
	if n := len(r.suspended.now()); n > 0 {
		text += fmt.Sprintf("; trusted clients suspended: %d (postern top)", n)
	}
	if a := g.audited.Load(); a != nil {
		text += "; audited " + a.At.UTC().Format(time.RFC3339)
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
