package serve

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/queue"
	"postern/internal/queue/queuetest"
)

// What cannot leave is not released: it stays held, for the reason that it had.
func TestReleaseOfWhatCannotGo(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(g *generation)
		want   string // why it stays
		hold   string // afterwards
	}{
		{"it can go", func(*generation) {}, "", ""},
		{"its user is gone", func(g *generation) { g.policy = compiled(t, nil) }, "its grant for <b@far.example>", "the budget is used up"},
		{"its route holds, and nothing else any more", func(g *generation) {
			g.ways = &deliver.Routes{Default: deliver.Route{Kind: deliver.ToNobody, Why: "the route says hold"}}
		}, "its route holds mail for far.example: the route says hold", ""},
	} {
		r := filled(t, 0)
		g := *r.current.Load()
		c.change(&g)
		r.current.Store(&generation{policy: g.policy, ways: g.ways})
		l := queuetest.NewLetter(time.Now(), "<a@ours.example>", "<b@far.example>")
		l.Hold = "the budget is used up"
		must(r.queue.Put(t.Context(), l, strings.NewReader("text")))
		var said Batch
		n, err := r.release(&said)(t.Context(), l.ID, queue.NewID())
		m := must(r.queue.Show(t.Context(), l.ID))
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == "" && (n != 1 || said.Stay != 0 || m.Hold != c.hold):
			t.Errorf("%s: %d released, %+v", c.name, n, said)
		case c.want != "" && (n != 0 || said.Stay != 1 || len(said.Kept) != 1 || !strings.HasPrefix(said.Kept[0].Why, c.want) || m.Hold != c.hold):
			t.Errorf("%s: %d released, %+v, held because %q", c.name, n, said, m.Hold)
		}
	}
}

// Each delivery that is not settled says what it waits for.
func TestWaits(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	later := now.Add(time.Minute)
	paused := standing{"far.example": {Blocked: now.Add(30 * time.Second), Why: "connection refused"}}
	for _, c := range []struct {
		name string
		s    standing
		m    func(m *queue.Message, d *queue.Delivery)
		want string
	}{
		{"delivered", standing{}, func(_ *queue.Message, d *queue.Delivery) { d.State = queue.Delivered }, "<nil>"},
		{"held", paused, func(m *queue.Message, _ *queue.Delivery) { m.Hold = "budget" }, "operator: budget"},
		{"withheld", standing{}, func(_ *queue.Message, d *queue.Delivery) { d.State, d.Note = queue.Withheld, "grant lost" }, "operator: grant lost"},
		{"its destination is left alone", paused, func(_ *queue.Message, d *queue.Delivery) { d.Next = later }, "pause 30s: connection refused; far.example, then 1m0s"},
		{"left alone, never tried", paused, func(*queue.Message, *queue.Delivery) {}, "pause 30s: connection refused; far.example, then"},
		{"its next attempt", standing{}, func(_ *queue.Message, d *queue.Delivery) { d.Next, d.Note = later, "greylisted" }, "attempt 1m0s: greylisted"},
		{"no relay runs", nil, func(_ *queue.Message, d *queue.Delivery) { d.Next, d.Note = later, "greylisted" }, "attempt 1m0s: greylisted"},
		{"due, and no relay runs", nil, func(*queue.Message, *queue.Delivery) {}, "turn: it is due, and no relay runs"},
		{"under way", standing{"far.example": {Active: 1}}, func(m *queue.Message, _ *queue.Delivery) { m.State = queue.Active }, "server: "},
		{"others are", standing{"far.example": {Active: 5, Limit: 5}}, func(*queue.Message, *queue.Delivery) {}, "turn: 5 attempts to far.example are under way, of 5 at most"},
		{"too fast", standing{"far.example": {Gap: "2s"}}, func(*queue.Message, *queue.Delivery) {}, "turn: far.example wants less of us: one attempt each 2s"},
		{"due", standing{}, func(*queue.Message, *queue.Delivery) {}, "turn: it is due"},
	} {
		m := must(queue.New(queuetest.NewLetter(now, "<a@ours.example>", "<b@far.example>")))
		d := &m.To[0].Goes[0]
		c.m(&m, d)
		got := "<nil>"
		if w := c.s.wait(&m, d, now); w != nil {
			got = w.For
			if !w.Until.IsZero() {
				got += " " + w.Until.Sub(now).String()
			}
			got += ": " + w.Why
			if w.Destination != "" {
				got += "; " + w.Destination + ", then"
				if !w.Next.IsZero() {
					got += fmt.Sprintf(" %v", w.Next.Sub(now))
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
