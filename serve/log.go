package serve

import (
	"context"
	"log/slog"
	"time"

	"postern/guard"
	"postern/internal/attr"
	"postern/policy"
)

// note takes what the guard saw: a line of the log, the counters, the wall.
func (r *Relay) note(e guard.Event) {
	r.metrics.note(e)
	r.count(e)
	switch {
	case e.Kind == guard.Refused && (e.Cause == string(policy.Relaying) || e.Cause == string(policy.NotTrusted)):
		r.wall.turnedAway()
	case e.Kind == guard.Withdrawn:
		r.suspend(e.Identity, e.Why, attr.Message(e.Message), attr.Listener(e.Listener), attr.Peer(e.Peer), attr.Helo(e.Helo))
		return
	case e.Kind == guard.Accepted && e.Role == policy.MX && r.leaves(e.Grants):
		r.wall.relayed(time.Now())
		r.metrics.strangerGrants.Inc()
	}
	for _, g := range e.Grants {
		if g.Leaves() > 0 {
			r.metrics.forwarded.Add(float64(g.Leaves()))
		}
	}
	level := slog.LevelInfo
	switch e.Kind {
	case guard.Held, guard.OverBudget, guard.NotStored:
		level = slog.LevelWarn
	case guard.Connected, guard.Closed, guard.Carried:
		level = slog.LevelDebug
	case guard.Refused, guard.Accepted, guard.LoggedIn, guard.LoginFailed, guard.Withdrawn:
	}
	r.o.Log.LogAttrs(context.Background(), level, "smtp", attributes(e)...)
}

// leaves reports whether a grant to a stranger leads to somebody else's domain
// in the stranger's name; a notice has none. The proof says that none does; this
// counts all the same.
func (r *Relay) leaves(grants []policy.Grant) bool {
	p := r.current.Load().policy
	for _, g := range grants {
		for _, d := range g.Goes() {
			if d.From.IsZero() && !g.From().Null() && !p.Ours(d.To.Domain()) {
				return true
			}
		}
	}
	return false
}

// attributes are those that the event has.
func attributes(e guard.Event) []slog.Attr {
	list := []slog.Attr{slog.String("event", string(e.Kind)), attr.Message(e.Message), attr.Listener(e.Listener), attr.Peer(e.Peer)}
	if e.Session != e.Message {
		list = append(list, attr.Session(e.Session))
	}
	if e.Helo != "" {
		list = append(list, attr.Helo(e.Helo))
	}
	if e.Identity != "" {
		list = append(list, attr.Identity(e.Identity))
	}
	if !e.From.IsZero() {
		list = append(list, attr.ReversePath(e.From))
	}
	if !e.To.IsZero() {
		list = append(list, attr.ForwardPath(e.To))
	}
	for _, g := range e.Grants {
		list = append(list, slog.Group("to", attr.ForwardPath(g.To()), attr.Grant(g), attr.At(g.Origin())))
	}
	if e.Cause != "" {
		list = append(list, slog.String("cause", e.Cause))
	}
	if e.Why != "" {
		list = append(list, slog.String("why", e.Why))
	}
	if !e.Reply.IsZero() {
		list = append(list, attr.Code(e.Reply.Code))
	}
	if e.Size > 0 {
		list = append(list, slog.Int64("size", e.Size))
	}
	if e.Took > 0 {
		list = append(list, attr.Took(e.Took.Round(time.Microsecond)))
	}
	if e.Err != nil {
		list = append(list, attr.Err(e.Err))
	}
	return list
}
