package check_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/report"
	"postern/verdict"
)

// side checks n hosts side by side with one place, and returns how long it took.
func side(t *testing.T, w *world, n int, o check.Options) (time.Duration, []report.Report) {
	t.Helper()
	w.fresh = make(chan struct{}, 1)
	o.Collector, o.Dial, o.Owned, o.Parallel = w, w.dial, true, 1
	o.Helo, o.Ports, o.Domain = "tester.example", []uint16{25}, domain(t, "ours.example")
	c, err := check.Begin(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	reports := make([]report.Report, n)
	var wg sync.WaitGroup
	for i := range n {
		target, err := plan.ParseTarget(fmt.Sprintf("127.0.0.%d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if reports[i], err = c.Check(t.Context(), target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	w.sessions.Wait()
	return took, reports
}

// A target that is waited for, whatever for, holds no place; one that answers
// all the time does, and others come after it.
func TestAWaitHoldsNoPlace(t *testing.T) {
	discard := func(context.Context, open.Asked) open.Answer {
		return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Fate: open.Keep}
	}
	for _, c := range []struct {
		name   string
		server open.SMTP
		want   verdict.Verdict
		atOnce bool
	}{
		{"waits for arrivals", open.SMTP{Rule: discard}, verdict.Accepts, true},
		{"waits for the banner", open.SMTP{Rule: postmasterOnly, Pause: 5 * time.Second}, verdict.Closed, true},
		{"waits for every refusal", open.SMTP{Rule: postmasterOnly, Slow: func(int) time.Duration { return 5 * time.Second }}, verdict.Closed, true},
		{"answers one thing after the other", open.SMTP{Rule: postmasterOnly, Slow: func(int) time.Duration { return 100 * time.Millisecond }}, verdict.Closed, false},
	} {
		var one, many time.Duration
		for _, n := range []int{1, 8} {
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				c.server.Name, c.server.Sink, c.server.Limits = "mx.ours.example", w, limits()
				w.server = c.server
				took, reports := side(t, w, n, check.Options{Quick: true, Wait: 20 * time.Second})
				for _, r := range reports {
					if r.Verdict() != c.want {
						t.Errorf("%s: %s, want %s", c.name, r.Verdict(), c.want)
					}
				}
				one, many = many, took
			})
		}
		if together := many < 3*one/2; together != c.atOnce {
			t.Errorf("%s: one takes %s, eight %s; side by side is %v, want %v", c.name, one, many, together, c.atOnce)
		}
	}
}

// The conversations of many targets lie in a file, and are read back as they
// were.
func TestConversationsAreKeptElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: postmasterOnly, Limits: limits()}
		w.fresh = make(chan struct{}, 1)
		o := check.Options{Collector: w, Dial: w.dial, Owned: true, Parallel: 2, Helo: "tester.example", Ports: []uint16{25}, Domain: domain(t, "ours.example")}
		target, err := plan.ParseTarget("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		r, err := check.Run(t.Context(), target, o)
		if err != nil {
			t.Fatal(err)
		}
		w.sessions.Wait()
		for _, f := range r.Addresses[0].Doors[0].Forms {
			if f.Outcome == verdict.Denied && !strings.Contains(f.Transcript.String(), string(f.Token)) {
				t.Errorf("%s: %q", f.Form.ID, f.Transcript)
			}
		}
	})
}
