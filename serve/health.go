package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// Healthy asks every part of the relay whether it works: whether a client that
// connects is let in, and the queue, the delivery and the control socket
// answer. A full disk is no reason to be started anew.
func (r *Relay) Healthy(ctx context.Context) error {
	signs := r.signs(ctx)
	bad := make([]error, 0, len(signs)+2)
	for _, part := range slices.Sorted(maps.Keys(signs)) {
		bad = append(bad, signs[part])
	}
	return errors.Join(append(bad, r.life.asleep(), r.unaudited())...)
}

// ails says what is wrong around the relay and stops no mail: being started
// anew would not help.
func (r *Relay) ails() string {
	if r.o.Ails == nil {
		return ""
	}
	return r.o.Ails()
}

// unaudited reports that the self-audit is long overdue.
func (r *Relay) unaudited() error {
	g := r.current.Load()
	a := g.audited.Load()
	if a == nil {
		return nil
	}
	if since := time.Since(a.At); since > 2*g.settings.Audit.every()+time.Hour {
		return fmt.Errorf("the last self-audit was made %v ago", since.Round(time.Minute))
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
	if ails := r.ails(); ails != "" {
		text += "; " + ails
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
