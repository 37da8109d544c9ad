package check_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/open"
	"postern/plan"
	"postern/verdict"
)

// A server that works its queue off one message after the other brings the
// plainest form last. The reason that is given must be that form's, and not
// that of the trick that happened to be first.
func TestPlainArrivesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: &firstIsLast{w: w}, Limits: limits()}
		j, took := w.audit(t, check.Options{Wait: 2 * time.Minute, Quick: true})
		if j.Verdict != verdict.Open || j.Proof == nil || j.Proof.Form.ID != "plain" {
			t.Errorf("%s: %s; proved by %+v", j.Verdict, j.Why, j.Proof)
		}
		if took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		time.Sleep(time.Minute)
	})
}

// A wait that was cut short, or was none, proves nothing closed.
func TestCutShort(t *testing.T) {
	for _, c := range []struct {
		name        string
		wait, after time.Duration
		why         string
	}{
		{"interrupted after 100 seconds", 2 * time.Minute, 100 * time.Second, "when the wait was cut short"},
		{"a wait of a second", time.Second, time.Hour, "nothing arrived in 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{fresh: make(chan struct{}, 1)}
				w.server = open.SMTP{Name: "mx.ours.example", Rule: unwraps("ours.example", keeps), Limits: limits(), Sink: slow{w, 5 * time.Minute}}
				ctx, cancel := context.WithTimeout(t.Context(), c.after)
				defer cancel()
				target, err := plan.ParseTarget("203.0.113.10")
				if err != nil {
					t.Fatal(err)
				}
				report, _ := check.Run(ctx, target, check.Options{
					Collector: w, Dial: w.dial, Owned: true, Helo: "tester.example", Ports: []uint16{25},
					Pace: time.Second, Domain: domain(t, "ours.example"), Wait: c.wait,
				})
				if j := report.Addresses[0].Doors[0].Judgement; j.Verdict != verdict.Accepts || !strings.Contains(j.Why, c.why) {
					t.Errorf("%s (%s), want accepts with %q\n%s", j.Verdict, j.Why, c.why, outcomes(j))
				}
				time.Sleep(10 * time.Minute)
				w.sessions.Wait()
			})
		})
	}
}

// firstIsLast lets the first message that it gets travel for ten seconds, and
// the others arrive at once.
type firstIsLast struct {
	w    *world
	seen bool
}

func (s *firstIsLast) Take(ctx context.Context, m open.Message) error {
	if s.seen {
		return s.w.Take(ctx, m)
	}
	s.seen = true
	return slow{s.w, 10 * time.Second}.Take(ctx, m)
}
