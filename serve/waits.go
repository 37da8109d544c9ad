package serve

import (
	"context"
	"fmt"
	"time"

	"postern/internal/deliver"
	"postern/internal/queue"
)

// A Wait is what a delivery that is not settled waits for.
type Wait struct {
	For         string    `json:"for"`                   // operator, pause, attempt, turn; or server, of one that is under way
	Until       time.Time `json:"until,omitzero"`        // of pause and attempt
	Why         string    `json:"why,omitempty"`         // why it is held, or what was said last
	Next        time.Time `json:"next,omitzero"`         // of pause: when this one is tried, some time after its end
	Destination string    `json:"destination,omitempty"` // of pause: the destination
}

// A standing is what is done for each destination now; nil: no relay runs.
type standing map[string]deliver.Status

// standing asks the deliverer. It answers when it runs; it may have been told to
// stop.
func (r *Relay) standing(ctx context.Context) standing {
	soon, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s := standing{}
	for _, d := range r.deliver.Snapshot(soon) {
		s[d.Destination] = d
	}
	return s
}

// wait says what a delivery of a message waits for; nil: it is settled.
func (s standing) wait(m *queue.Message, d *queue.Delivery, now time.Time) *Wait {
	to, said := s[d.Destination()], d.Note
	if !d.Reply.IsZero() {
		said = d.Reply.String()
	}
	switch {
	case d.State.Settled():
		return nil
	case m.Hold != "":
		return &Wait{For: "operator", Why: m.Hold}
	case d.State == queue.Withheld:
		return &Wait{For: "operator", Why: d.Note}
	case !to.Blocked.IsZero() && (m.State != queue.Active || to.Active == 0):
		w := &Wait{For: "pause", Until: to.Blocked, Why: to.Why, Destination: d.Destination()}
		if d.Next.After(to.Blocked) {
			w.Next = d.Next
		}
		return w
	case d.Next.After(now):
		return &Wait{For: "attempt", Until: d.Next, Why: said}
	case m.State == queue.Active && to.Active > 0 && to.Ahead == 0:
		return &Wait{For: "server"}
	case s == nil:
		return &Wait{For: "turn", Why: "it is due, and no relay runs"}
	case to.Gap != "":
		return &Wait{For: "turn", Why: fmt.Sprintf("%s wants less of us: one attempt each %s", d.Destination(), to.Gap)}
	case to.Active > 0:
		return &Wait{For: "turn", Why: fmt.Sprintf("%d attempts to %s are under way, of %d at most", to.Active, d.Destination(), to.Limit)}
	}
	return &Wait{For: "turn", Why: "it is due"}
}

// reason says in short why a message is still here: what an operator is to look
// at first, then what was said last.
func reason(m *queue.Message) string {
	if m.Hold != "" {
		return m.Hold
	}
	last := ""
	for _, to := range m.To {
		for i := range to.Goes {
			d := &to.Goes[i]
			switch {
			case d.State == queue.Withheld:
				return d.Note
			case d.State != queue.Waiting:
			case !d.Reply.IsZero():
				last = d.Reply.String()
			case d.Note != "":
				last = d.Note
			}
		}
	}
	return last
}
