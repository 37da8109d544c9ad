package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/deliver"
	"postern/internal/queue"
	"postern/policy"
)

// A Kept is a message that could not be released, and why.
type Kept struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// mostKept is how many of these are named: people read them.
const mostKept = 20

// release lets messages go that can go. Those that cannot stay held, for the
// reason that they have, or, if their route holds them, for that alone; b takes
// how many they are, and why.
func (r *Relay) release(b *Batch) verb {
	return func(ctx context.Context, ids ...string) (int, error) {
		g := r.current.Load()
		_, _, disabled := storedUsers(r.users)
		free, routed := make([]string, 0, len(ids)), 0
		for _, id := range ids {
			m, err := r.queue.Show(ctx, id)
			if errors.Is(err, queue.ErrNoSuchID) {
				continue
			}
			if err != nil {
				return 0, err
			}
			why, route := r.keeps(g, disabled, &m)
			if why == "" || route && m.Hold != "" {
				free = append(free, id)
			}
			if why == "" {
				continue
			}
			if route && m.Hold != "" {
				routed++
			}
			if b.Stay++; len(b.Kept) < mostKept {
				b.Kept = append(b.Kept, Kept{id, why})
			}
		}
		if len(free) == 0 {
			return 0, nil
		}
		n, err := r.queue.Release(ctx, free...)
		return max(n-routed, 0), err
	}
}

// keeps says why nothing of a message could leave if it were released, or "";
// route: its grants hold, and its route does not lead anywhere.
func (r *Relay) keeps(g *generation, disabled []string, m *queue.Message) (why string, route bool) {
	for _, to := range m.To {
		lost := g.policy.Lost(to.Grant)
		switch doubt := r.guard.Witness.Suspended(to.Grant.Who); {
		case lost != "" && to.Grant.Reason == policy.Authenticated.String() && slices.ContainsFunc(disabled, func(name string) bool { return isOf(to.Grant.Who, name) }):
			lost = to.Grant.Who + " is disabled"
		case lost == "" && doubt != "" && to.Grant.Reason == policy.TrustedPeer.String():
			lost = fmt.Sprintf("trust in %s was withdrawn: %s", to.Grant.Who, doubt)
		}
		for i := range to.Goes {
			d := &to.Goes[i]
			if d.State.Settled() {
				continue
			}
			stays := lost
			if way := g.ways.For(d.Destination()); stays == "" && way.Kind == deliver.ToNobody {
				stays = fmt.Sprintf("its route holds mail for %s: %s", d.Destination(), way.Why)
			}
			if stays == "" {
				return "", false
			}
			why, route = stays, route || lost == ""
		}
	}
	return why, route
}

// isOf reports that a login is of a user, or of a token of that user.
func isOf(login, user string) bool {
	name, _, _ := strings.Cut(login, "/")
	return strings.EqualFold(name, user)
}

// retry makes messages due at once, and ends the pauses of where they go: whoever
// asks for it knows that the server is back, or wants to know. b takes which
// pauses those were.
func (r *Relay) retry(b *Batch) verb {
	return func(ctx context.Context, ids ...string) (int, error) {
		to := map[string]bool{}
		for _, id := range ids {
			m, err := r.queue.Show(ctx, id)
			if errors.Is(err, queue.ErrNoSuchID) {
				continue
			}
			if err != nil {
				return 0, err
			}
			for i := range m.To {
				for j := range m.To[i].Goes {
					if d := &m.To[i].Goes[j]; d.State == queue.Waiting {
						to[d.Destination()] = true
					}
				}
			}
		}
		names := make([]string, 0, len(to))
		for name := range to {
			names = append(names, name)
		}
		if len(names) > 0 {
			r.lift(ctx, b, names...)
		}
		return r.queue.Retry(ctx, ids...)
	}
}

// lift ends the pauses of destinations, of all if no name is given.
func (r *Relay) lift(ctx context.Context, b *Batch, names ...string) {
	soon, cancel := context.WithTimeout(ctx, 2*time.Second) // it may have been told to stop
	defer cancel()
	for _, s := range r.deliver.Lift(soon, names...) {
		if !slices.ContainsFunc(b.Lifted, func(o deliver.Status) bool { return o.Destination == s.Destination }) {
			b.Lifted = append(b.Lifted, s)
		}
	}
}

// flush makes due at once all that was put off, for one domain or for all.
func (r *Relay) flush(ctx context.Context, destination, after string) (b Batch, err error) {
	f := queue.Filter{State: queue.Deferred, Destination: destination}
	var lifted Batch
	if after == "" { // the first call of several
		var names []string
		if destination != "" {
			names = []string{destination}
		}
		r.lift(ctx, &lifted, names...)
	}
	b, err = r.sweep(ctx, f, after, nil, r.queue.Retry)
	b.Lifted = lifted.Lifted
	return b, err
}
