package serve

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"postern/internal/attr"
	"postern/internal/meter"
	"postern/internal/queue"
	"postern/policy"
)

// withhold says why a message of an identity or trusted client is held though
// policy and limits let it leave: who sends it has broken out of what it is
// used to, or a budget is used up.
func (r *Relay) withhold(who string, l *policy.Letter) string {
	s, now := &r.current.Load().settings, time.Now()
	if !s.Traffic.Loose {
		addresses := 0
		for _, a := range l.To {
			addresses += len(a.Grant.Goes())
		}
		why, began := r.traffic.Judge(now, who, int64(addresses), floorOf(s, who))
		if began {
			r.brokeOut(who, why)
		}
		if why != "" {
			return why
		}
	}
	return r.spent(now, who, &s.Traffic)
}

// floorOf is what an identity may send within an hour whatever it is used to.
// Who wrote a limit for a trusted client has said what that machine is used to;
// a person's limit of a day is not what they do within an hour.
func floorOf(s *Settings, who string) meter.Habit {
	floor := s.Traffic.Floor
	if floor == (meter.Habit{}) {
		floor = meter.Floor
	}
	own, ok := s.Guard.Clients[who]
	if ok && own.Per > 0 && slices.ContainsFunc(s.Policy.Trusted, func(t policy.TrustedClient) bool { return t.Name == who }) {
		n := int64(float64(own.N) * max(1, float64(time.Hour)/float64(own.Per)))
		floor.Messages, floor.Recipients = max(floor.Messages, n), max(floor.Recipients, n)
	}
	return floor
}

func (r *Relay) brokeOut(who, why string) {
	r.metrics.breakouts.Inc()
	r.o.Log.LogAttrs(context.Background(), slog.LevelError, "breakout: what this identity sends is held until you decide: postern release, or postern reject, with its name",
		attr.Identity(who), slog.String("why", why))
	select {
	case r.traffic.broke <- struct{}{}:
	default:
	}
}

const (
	saveTraffic = time.Minute
	// What was accepted so shortly before a breakout belongs to it.
	breakoutWindow = 10 * time.Minute
	// A message that was judged before the breakout may be stored after it.
	lookTwice = 2 * time.Second
)

// watchTraffic saves what was counted, and holds what belongs to a breakout and
// was accepted before it, until ctx ends.
func (r *Relay) watchTraffic(ctx context.Context) error {
	minute := time.NewTicker(saveTraffic)
	defer minute.Stop()
	again := time.NewTimer(lookTwice)
	defer again.Stop()
	pulse := r.life.pulse("the watch over traffic", slowRounds)
	for {
		pulse.beat()
		select {
		case <-ctx.Done():
			return nil
		case <-r.traffic.broke:
			r.complain(errors.Join(r.holdRecent(ctx), r.traffic.save()))
			again.Reset(lookTwice)
		case <-again.C:
			r.complain(r.holdRecent(ctx))
		case <-minute.C:
			r.open.Carried(r.tunnel)
			for _, b := range r.traffic.Silent(time.Now()) {
				r.o.Log.LogAttrs(ctx, slog.LevelWarn, "breakout over after a day of silence; what was held stays held", attr.Identity(b.Who))
			}
			r.complain(r.traffic.save())
		}
	}
}

// holdRecent holds what those have sent who broke out just now, and what still
// waits in the queue.
func (r *Relay) holdRecent(ctx context.Context) error {
	now := time.Now()
	for _, b := range r.traffic.Breakouts() {
		if now.Sub(b.Since) > time.Minute {
			continue
		}
		of := func(m *queue.Message) bool { return m.Origin.Identity == b.Who && m.Hold == "" }
		hold := func(ctx context.Context, ids ...string) (int, error) { return r.queue.Hold(ctx, b.Why, ids...) }
		for after := queue.FirstID(b.Since.Add(-breakoutWindow)); ; {
			done, err := r.sweep(ctx, queue.Filter{}, after, of, hold)
			if err != nil {
				return err
			}
			if after = done.Next; after == "" {
				break
			}
		}
	}
	return nil
}

// ofBreakout reports the messages that a breakout of who keeps.
func ofBreakout(who string) func(*queue.Message) bool {
	return func(m *queue.Message) bool {
		return m.Origin.Identity == who && strings.HasPrefix(m.Hold, meter.Why)
	}
}

// A HeldBatch is what a breakout keeps.
type HeldBatch struct {
	meter.Breakout            // Since is zero of one that is over
	Messages       int        `json:"messages"`
	Recipients     int        `json:"recipients"`
	To             []HeldDest `json:"to"` // by destination, that with most first
}

// A HeldDest is how many addresses of a destination messages go to.
type HeldDest struct {
	Destination string `json:"destination"`
	Recipients  int    `json:"recipients"`
}

// heldBatches returns what breakouts keep, those that last and those that are
// over; of one identity, if one is named.
func (r *Relay) heldBatches(ctx context.Context, who string) ([]HeldBatch, error) {
	batches := map[string]*HeldBatch{}
	for _, b := range r.traffic.Breakouts() {
		if who == "" || who == b.Who {
			batches[b.Who] = &HeldBatch{Breakout: b}
		}
	}
	to := map[string]map[string]int{}
	see := func(m *queue.Message) bool {
		name := m.Origin.Identity
		if who != "" && name != who || !ofBreakout(name)(m) {
			return false
		}
		b := batches[name]
		if b == nil {
			b = &HeldBatch{Breakout: meter.Breakout{Who: name, Why: m.Hold}}
			batches[name] = b
		}
		if to[name] == nil {
			to[name] = map[string]int{}
		}
		b.Messages++
		for i := range m.To {
			for j := range m.To[i].Goes {
				b.Recipients++
				to[name][m.To[i].Goes[j].Destination()]++
			}
		}
		return false
	}
	for after := ""; ; {
		done, err := r.sweep(ctx, queue.Filter{State: queue.Held}, after, see, nil)
		if err != nil {
			return nil, err
		}
		if after = done.Next; after == "" {
			break
		}
	}
	list := make([]HeldBatch, 0, len(batches))
	for name, b := range batches {
		for d, n := range to[name] {
			b.To = append(b.To, HeldDest{d, n})
		}
		slices.SortFunc(b.To, func(x, y HeldDest) int {
			return cmp.Or(cmp.Compare(y.Recipients, x.Recipients), cmp.Compare(x.Destination, y.Destination))
		})
		b.To = b.To[:min(len(b.To), 10)] // people read it
		list = append(list, *b)
	}
	slices.SortFunc(list, func(a, b HeldBatch) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Who, b.Who)) })
	return list, nil
}

// A Decision is what the operator wants of a breakout.
type Decision struct {
	Who     string
	Release bool   // let it go; otherwise it is deleted
	Notify  bool   // of a reject: tell who sent it
	After   string // where the call before this one ended
}

// decide ends a breakout and lets what it keeps go, or deletes it, for a while.
func (r *Relay) decide(ctx context.Context, d Decision) (b Batch, err error) {
	if d.After == "" {
		if _, was := r.traffic.Decide(time.Now(), d.Who, d.Release); was {
			r.o.Log.LogAttrs(ctx, slog.LevelWarn, "breakout decided by the operator", attr.Identity(d.Who), slog.Bool("released", d.Release))
			if err := r.traffic.save(); err != nil {
				return Batch{}, err
			}
		}
	}
	do, told := verb(r.queue.Delete), 0
	var kept Batch
	switch {
	case d.Release:
		do = r.release(&kept)
	case d.Notify:
		do = r.reject(&told)
	}
	b, err = r.sweep(ctx, queue.Filter{State: queue.Held}, d.After, ofBreakout(d.Who), do)
	b.Notices, b.Stay, b.Kept = told, kept.Stay, kept.Kept
	return b, err
}
