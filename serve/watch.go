package serve

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postern/internal/attr"
	"postern/internal/queue"
	"postern/policy"
)

// How often the relay looks at what may have changed without a reload.
const (
	lookAtUsers = 2 * time.Second  // a user that was disabled sends no more
	lookAround  = time.Minute      // certificates, gateways, the wall
	lookBack    = 15 * time.Minute // at what is old enough to be forgotten, or must go for want of room
)

// watch looks after what changes by itself until ctx ends.
func (r *Relay) watch(ctx context.Context) error {
	users, around, back := time.NewTicker(lookAtUsers), time.NewTicker(lookAround), time.NewTicker(lookBack)
	defer users.Stop()
	defer around.Stop()
	defer back.Stop()
	every := r.current.Load().settings.Audit.every()
	audits := time.NewTicker(every)
	defer audits.Stop()
	pulse := r.life.pulse("the watch over users, certificates and audits", slowRounds)
	r.complain(r.recheck(ctx))
	r.complain(errors.Join(r.expire(ctx), r.forget(ctx)))
	var refused [32]byte // users with whom no policy could be put in force
	var at time.Time
	for {
		pulse.beat()
		if now := r.current.Load().settings.Audit.every(); now != every { // as of the last reload
			every = now
			audits.Reset(every)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-users.C:
			now := r.fingerprint()
			if now == r.current.Load().users || now == refused && time.Since(at) < lookAround {
				continue
			}
			refused, at = now, time.Now() // if so, that is tried again
			r.complain(r.usersChanged(ctx))
		case <-around.C:
			r.lookAround(ctx)
		case <-back.C:
			r.complain(errors.Join(r.expire(ctx), r.forget(ctx)))
		case <-audits.C:
			if err := r.auditAgain(ctx); err != nil {
				return err
			}
		}
	}
}

// fingerprint tells two states of the users apart.
func (r *Relay) fingerprint() [32]byte {
	users, tokens, disabled := storedUsers(r.users)
	return sha256.Sum256(fmt.Appendf(nil, "%v %v %v", users, tokens, disabled))
}

// judgeAgain puts the users of the store and the machine's own addresses, as
// they are now, in force with the configuration as it is: nobody asked for a
// reload of that.
func (r *Relay) judgeAgain(ctx context.Context, changed string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judgeHeld(ctx, changed)
}

// usersChanged is judgeAgain for the users, unless somebody else has put them in
// force meanwhile.
func (r *Relay) usersChanged(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fingerprint() == r.current.Load().users {
		return nil
	}
	return r.judgeHeld(ctx, "the users were")
}

// judgeHeld is judgeAgain with r.mu held.
func (r *Relay) judgeHeld(ctx context.Context, changed string) error {
	old := r.current.Load()
	g, err := r.judge(ctx, old.settings, old.tls) // the listeners go on, with their certificate
	if err != nil {
		return fmt.Errorf("%s changed and the policy is refused with that; the old one stays in force: %w", changed, err)
	}
	r.put(g)
	return r.recheck(ctx)
}

func (r *Relay) lookAround(ctx context.Context) {
	g := r.current.Load()
	if renewed, err := g.tls.refresh(); renewed {
		r.o.Log.LogAttrs(ctx, slog.LevelInfo, "certificate read anew", slog.Time("expires", g.tls.leaf().NotAfter))
	} else {
		r.complain(err)
	}
	if left := time.Until(g.tls.leaf().NotAfter); left < 14*24*time.Hour {
		r.o.Log.LogAttrs(ctx, slog.LevelWarn, "the certificate expires soon", slog.Time("expires", g.tls.leaf().NotAfter))
	}
	around := r.around(r.complain)
	for _, n := range g.policy.OnTheRoad(around) {
		client := g.policy.TrustedBy(n.Prefix.Addr())
		if why := fmt.Sprintf("%s now holds a gateway or a bridge of this machine", n.Prefix); r.guard.Witness.Withdraw(client, why) {
			r.suspend(client, why, attr.At(n.At))
		}
	}
	if !slices.Equal(around.Own, g.policy.Source().Around.Own) {
		// Nothing may be sent to an address that the machine got since, and a
		// gateway leads there no more.
		r.complain(r.judgeAgain(ctx, "this machine's own addresses were"))
	}
	r.recheckTunnels(ctx, r.policy()) // trust is withdrawn by what the guard sees, too
	r.complain(r.wall.save(time.Now()))
}

// auditAgain audits the generation in force. One that is found open, which the
// proof says cannot be, ends the relay: closed is what it promises.
func (r *Relay) auditAgain(ctx context.Context) error {
	g := r.current.Load()
	err := r.selfAudit(ctx, g)
	var open *NotClosedError
	switch {
	case errors.As(err, &open):
		return err
	case err != nil:
		r.o.Log.LogAttrs(ctx, slog.LevelError, "the self-audit could not be made", attr.Err(err))
	default:
		r.o.Log.LogAttrs(ctx, slog.LevelInfo, "self-audit: closed", attr.Took(g.audited.Load().Took))
	}
	return nil
}

// recheck decides again on what waits in the queue: whose grant was lost is
// held for the operator, not sent. What a route held that leads somewhere now
// is let go.
func (r *Relay) recheck(ctx context.Context) error {
	g := r.current.Load()
	p := g.policy
	r.recheckTunnels(ctx, p)
	for after := ""; ; {
		list, next, err := r.queue.List(ctx, queue.Filter{}, queue.Page{After: after, Max: 1000})
		if err != nil {
			return fmt.Errorf("decide again on the queue: %w", err)
		}
		for i := range list {
			if list[i].Hold != "" {
				continue
			}
			if g.ways.Frees(&list[i]) {
				if _, err := r.queue.Release(ctx, list[i].ID); err != nil {
					return fmt.Errorf("release %s: %w", list[i].ID, err)
				}
			}
			if why := lost(p, &list[i]); why != "" {
				if _, err := r.queue.Hold(ctx, why, list[i].ID); err != nil {
					return fmt.Errorf("hold %s: %w", list[i].ID, err)
				}
				r.o.Log.LogAttrs(ctx, slog.LevelWarn, "held: its grant was lost", attr.Message(list[i].ID), slog.String("why", why))
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// recheckTunnels decides again on the tunnels that are open.
func (r *Relay) recheckTunnels(ctx context.Context, p *policy.Policy) {
	if n := r.open.Recheck(p, &r.guard.Witness); n > 0 {
		r.o.Log.LogAttrs(ctx, slog.LevelWarn, "tunnels closed: their passage is no longer given", slog.Int("tunnels", n))
	}
}

// lost says which grant of a message no longer holds, or "".
func lost(p *policy.Policy, m *queue.Message) string {
	for _, to := range m.To {
		if !slices.ContainsFunc(to.Goes, func(d queue.Delivery) bool { return !d.State.Settled() }) {
			continue // it has left, or never will
		}
		if why := p.Lost(to.Grant); why != "" {
			return why
		}
	}
	return ""
}
