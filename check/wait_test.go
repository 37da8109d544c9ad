package check_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/open"
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
