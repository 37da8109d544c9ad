package identity

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(2, 3, time.Second)
		var running, most atomic.Int32
		results := make(chan error)
		for range 10 {
			go func() {
				results <- p.do(t.Context(), false, func() {
					if n := running.Add(1); n > most.Load() { // one begins at a time, see Wait
						most.Store(n)
					}
					time.Sleep(100 * time.Millisecond)
					running.Add(-1)
				})
			}()
			synctest.Wait()
		}
		ran, busy := 0, 0
		for range 10 {
			switch err := <-results; {
			case err == nil:
				ran++
			case errors.Is(err, errBusy):
				busy++
			default:
				t.Error(err)
			}
		}
		if ran != 5 || busy != 5 || most.Load() != 2 {
			t.Errorf("%d ran, %d at once, %d were turned away; want 5, 2, 5", ran, most.Load(), busy)
		}
	})
}

// Strangers who take all places take none of those who were here before.
func TestPoolKeepsPlacesForWhoIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(2, 3, time.Second)
		strangers := make(chan error)
		for range 10 {
			go func() { strangers <- p.do(t.Context(), false, func() { time.Sleep(time.Hour) }) }()
		}
		synctest.Wait()
		began := time.Now()
		for range 3 {
			if err := p.do(t.Context(), true, func() { time.Sleep(30 * time.Millisecond) }); err != nil || time.Since(began) > 90*time.Millisecond {
				t.Errorf("who is known: %v after %v", err, time.Since(began))
			}
		}
		if err := p.do(t.Context(), false, func() {}); !errors.Is(err, errBusy) {
			t.Errorf("one more stranger: %v", err)
		}
		for range 10 {
			if err := <-strangers; err != nil && !errors.Is(err, errBusy) {
				t.Error(err)
			}
		}
	})
}

func TestPoolWaitsNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1, 2, time.Second)
		done := make(chan error)
		go func() { done <- p.do(t.Context(), false, func() { time.Sleep(5 * time.Second) }) }()
		synctest.Wait()
		began := time.Now()
		err := p.do(t.Context(), false, func() { t.Error("it ran beside the other") })
		if waited := time.Since(began); !errors.Is(err, errBusy) || waited != time.Second {
			t.Errorf("after %v: %v", waited, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.do(ctx, false, func() {}); !errors.Is(err, errBusy) || !errors.Is(err, context.Canceled) {
			t.Errorf("a client that is gone: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, now := newProven(), time.Now()
		v, other := dummyArgon2id(), dummyArgon2id()
		p.add("anna", v, "secret", now)
		for _, c := range []struct {
			name, identity string
			v              verifier
			password       string
			after          time.Duration
			want           bool
		}{
			{"the same", "anna", v, "secret", 0, true},
			{"another password", "anna", v, "secre", 0, false},
			{"another user", "bert", v, "secret", 0, false},
			{"the parts run together", "annas", v, "ecret", 0, false},
			{"a changed password", "anna", other, "secret", 0, false},
			{"just before the end", "anna", v, "secret", provenFor - 1, true},
			{"at the end", "anna", v, "secret", provenFor, false},
			{"the end is the end", "anna", v, "secret", 0, false},
		} {
			if got := p.has(c.identity, c.v, c.password, now.Add(c.after)); got != c.want {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
		if newProven().mark("anna", v.String(), "secret") == p.mark("anna", v.String(), "secret") {
			t.Error("the marks of two processes are the same")
		}
	})
}

func TestRecent(t *testing.T) {
	r := newRecent[int](3, func(v *string) bool { return *v == "held" })
	for i, v := range []string{"held", "b", "c"} {
		*r.touch(i) = v
	}
	r.touch(1)
	*r.touch(3) = "d" // 2 is the one touched longest ago that is not held
	if r.at(2) != nil || r.at(0) == nil || r.at(1) == nil || r.at(3) == nil || len(r.entries) != 3 {
		t.Errorf("kept %v", r.entries)
	}
	r.drop(0)
	r.drop(0)
	if r.at(0) != nil || r.order.Len() != 2 {
		t.Error("a dropped entry is there")
	}
}
