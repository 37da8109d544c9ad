package identity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// failed makes one wrong guess, when its turn comes; it reports whether it was
// judged.
func failed(tb testing.TB, g *Guesses, t try) bool {
	tb.Helper()
	q, wait, err := g.begin(tb.Context(), t)
	if err != nil || (q == nil) != (wait > 0) {
		tb.Fatalf("begin: %v, wait %v, %v", q, wait, err)
	}
	if q == nil {
		return false
	}
	q.fail()
	return true
}

// right logs in; it reports whether that was let through, and after how long.
func right(tb testing.TB, g *Guesses, t try) (bool, time.Duration) {
	tb.Helper()
	began := time.Now()
	q, _, err := g.begin(tb.Context(), t)
	if err != nil {
		tb.Fatal(err)
	}
	if q != nil {
		q.succeed()
	}
	return q != nil, time.Since(began)
}

func at(name, from string) try { return try{name: name, exists: name == "anna", addr: addr(from)} }

// ipv4 and ipv6 are the nth of many networks, and of one site.
func ipv4(n int) string { return fmt.Sprintf("10.%d.%d.9", n>>8&255, n&255) }
func ipv6(n int) string { return fmt.Sprintf("2001:db8:1:%x00::9", n&255) }

// Whatever others did, the right password is judged, and soon.
func TestTheRightPasswordIsNeverRefusedForWhatOthersDid(t *testing.T) {
	shared := func(name string) try {
		return try{name: name, exists: name == "anna", addr: addr("172.17.0.1"), shared: true}
	}
	home := at("anna", "198.51.100.7")
	familiar := home
	familiar.familiar = true
	many := func(n int, who func(int) try) func(*testing.T, *Guesses) {
		return func(t *testing.T, g *Guesses) {
			for i := range n {
				failed(t, g, who(i))
			}
		}
	}
	anna := func(where func(int) string) func(int) try {
		return func(i int) try { return at("anna", where(i)) }
	}
	here := func(int) string { return "198.51.100.7" }
	for _, c := range []struct {
		name   string
		before func(*testing.T, *Guesses)
		who    try
		within time.Duration
	}{
		{"500 guesses at her account from 100 networks", many(500, anna(func(i int) string { return ipv4(i / 5) })), home, 0},
		{"100,000 from 10,000 networks", many(100_000, anna(func(i int) string { return ipv4(i % 10_000) })), home, 0},
		{"10,000 from a /48", many(10_000, anna(ipv6)), home, 0},
		{"one household, for a day", func(t *testing.T, g *Guesses) {
			for began := time.Now(); time.Since(began) < 24*time.Hour; time.Sleep(10 * time.Second) {
				failed(t, g, at("anna", ipv6(1)))
			}
		}, home, 0},
		{"2,000 invented names, from as many networks", many(2000, func(i int) try { return at(fmt.Sprint("x", i), ipv4(i)) }), home, 0},
		{"a telephone of the office with an old password of another", many(51, func(i int) try { return at("bea", here(i)) }), home, longestTurn},
		{"and she is known there", many(51, func(i int) try { return at("bea", here(i)) }), familiar, 0},
		{"300 names tried from her address", many(300, func(i int) try { return at(fmt.Sprint("x", i), here(i)) }), home, longestTurn},
		{"and she is known there", many(300, func(i int) try { return at(fmt.Sprint("x", i), here(i)) }), familiar, 0},
		{"100 guesses at her account from her address", many(100, anna(here)), home, longestTurn},
		{"and she is known there", many(100, anna(here)), familiar, longestTurn},
		{"the same while all networks guess", many(3000, anna(func(i int) string { return ipv4(i) })), familiar, 0},
		{"500 guesses at her account behind a gateway", many(500, func(int) try { return shared("anna") }), shared("anna"), longestTurn},
		{"2,000 invented names behind a gateway", many(2000, func(i int) try { return shared(fmt.Sprint("x", i)) }), shared("anna"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGuesses(GuessLimits{})
				c.before(t, g)
				if ok, took := right(t, g, c.who); !ok || took > c.within {
					t.Errorf("judged %v, after %v; want it within %v", ok, took, c.within)
				}
			})
		})
	}
}

// Somebody who guesses on and on where the user is does not keep the user out.
func TestTurnsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		const guessers = 10
		for range guessers {
			go func() {
				defer func() { done <- struct{}{} }()
				for ctx.Err() == nil {
					if q, _, err := g.begin(ctx, at("anna", "192.0.2.1")); err == nil && q != nil {
						q.fail()
					}
					time.Sleep(time.Second) // its reply is late
				}
			}()
		}
		time.Sleep(5 * time.Minute)
		tries := 0
		for in := false; !in && tries < 100; tries++ {
			deadline, end := context.WithTimeout(t.Context(), 10*time.Second) // as long as a client waits
			if q, _, _ := g.begin(deadline, at("anna", "192.0.2.1")); q != nil {
				q.succeed()
				in = true
			}
			end()
		}
		if tries == 100 {
			t.Error("the user was not let in once in 100 tries")
		}
		cancel()
		for range guessers {
			<-done
		}
	})
}

// How many guesses are judged in a day of somebody who is patient.
func TestGuessesADay(t *testing.T) {
	anna := func(int) string { return "anna" }
	invented := func(i int) string { return fmt.Sprint("user-", i) }
	for _, c := range []struct {
		name       string
		from       func(int) string
		who        func(int) string
		shared     bool
		atLeast    int // or the limit is not what it seems
		atMost     int
		inTenFirst int // in the first ten minutes, at most
	}{
		{"one account, one address", func(int) string { return "192.0.2.1" }, anna, false, 500, 560, 90},
		{"one account, all of a /24", func(i int) string { return fmt.Sprintf("192.0.2.%d", i%256) }, anna, false, 500, 560, 90},
		{"one account, all of a /56", func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i%256) }, anna, false, 500, 560, 90},
		{"one account, all of a /48", ipv6, anna, false, 500, 256 * (3 + 24 + 5), 120},
		{"one account, 100 networks", func(i int) string { return ipv4(i % 100) }, anna, false, 500, 100 * (3 + 24 + 5), 600},
		{"many accounts, one address", func(int) string { return "192.0.2.1" }, invented, false, 1000, 12_000, 150},
		{"many accounts, one address in its other form", func(int) string { return "::ffff:192.0.2.1" }, invented, false, 1000, 12_000, 150},
		{"many accounts, one /64", func(i int) string { return fmt.Sprintf("2001:db8::%x", i%65536) }, invented, false, 1000, 12_000, 150},
		{"many accounts, all of a /48", ipv6, invented, false, 1000, 12_000, 300},
		{"one account behind a gateway", func(int) string { return "172.17.0.1" }, anna, true, 1000, 13_000, 90},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGuesses(GuessLimits{})
				began, judged, early, refused := time.Now(), 0, 0, 0
				for i := 0; time.Since(began) < 24*time.Hour; i++ {
					who := c.who(i)
					q, wait, err := g.begin(t.Context(), try{name: who, exists: who == "anna", addr: addr(c.from(i)), shared: c.shared})
					if err != nil {
						t.Fatal(err)
					}
					if q == nil {
						if refused++; refused%256 == 0 { // all of its addresses are refused
							time.Sleep(min(wait, time.Minute))
						}
						continue
					}
					q.fail()
					if judged++; time.Since(began) < 10*time.Minute {
						early++
					}
					time.Sleep(time.Second) // the reply is late
				}
				if judged < c.atLeast || judged > c.atMost || early > c.inTenFirst {
					t.Errorf("%d guesses are judged in a day, want %d to %d; %d in ten minutes, want at most %d", judged, c.atLeast, c.atMost, early, c.inTenFirst)
				}
			})
		})
	}
}

// Somebody who guesses in a network that the accounts know is bounded too, and
// keeps out no account at which nobody guesses.
func TestGuessesADayWhereAccountsAreKnown(t *testing.T) {
	for _, c := range []struct {
		name            string
		accounts        int
		logins          time.Duration // the owner of each account logs in so often; 0: never
		atLeast, atMost int
	}{
		{"one account", 1, 0, 200, 550},
		{"one account, in use", 1, time.Hour, 200, 800},
		{"200 accounts", 200, 0, 300, 4500},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGuesses(GuessLimits{})
				known := func(name string) try {
					return try{name: name, exists: true, addr: addr("192.0.2.1"), familiar: true}
				}
				end := time.Now().Add(24 * time.Hour)
				judged := make(chan int)
				for i := range c.accounts {
					who := known(fmt.Sprint("user-", i))
					go func() {
						n := 0
						login := time.Now().Add(c.logins)
						for time.Now().Before(end) {
							if c.logins > 0 && time.Now().After(login) {
								if q, _, _ := g.begin(context.Background(), who); q != nil {
									q.succeed()
									login = time.Now().Add(c.logins)
								}
							}
							q, wait, _ := g.begin(context.Background(), who)
							if q == nil {
								time.Sleep(max(wait, time.Second))
								continue
							}
							time.Sleep(q.fail())
							n++
						}
						judged <- n
					}()
				}
				sum := 0
				for range c.accounts {
					sum += <-judged
				}
				if sum < c.atLeast || sum > c.atMost {
					t.Errorf("%d guesses are judged in a day, want %d to %d", sum, c.atLeast, c.atMost)
				}
				if ok, took := right(t, g, known("anna")); !ok || took > 0 {
					t.Errorf("an account at which nobody guesses: judged %v after %v", ok, took)
				}
				t.Log(sum, "guesses a day")
			})
		})
	}
}

// Failures of who is known, or whom a gateway hides, count for strangers.
func TestFailuresOfTheKnownCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		for i := range 10 {
			failed(t, g, try{name: fmt.Sprint("user-", i), exists: true, addr: addr("192.0.2.1"), familiar: true})
		}
		failed(t, g, at("bea", "192.0.2.1"))
		if _, took := right(t, g, at("carla", "192.0.2.1")); took == 0 {
			t.Error("the client's failures at accounts that know it do not count")
		}
		for range 500 {
			failed(t, g, try{name: "anna", exists: true, addr: addr("172.17.0.1"), shared: true})
		}
		guesser := at("anna", "203.0.113.9")
		for range alarmedNetwork.limit.Failures {
			failed(t, g, guesser)
		}
		if q, wait, err := g.begin(t.Context(), guesser); q != nil || wait == 0 || err != nil {
			t.Errorf("500 failures behind a gateway are no alarm: %v, %v, %v", q, wait, err)
		}
	})
}

// An old password in a telephone does not keep out who knows the new one.
func TestAnOldPasswordAtHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		home := at("anna", "192.0.2.1")
		home.familiar = true
		for i := range 3 * 288 {
			failed(t, g, home)
			time.Sleep(5 * time.Minute)
			if i%10 == 9 {
				if ok, took := right(t, g, home); !ok || took > longestTurn {
					t.Fatalf("after %d failures: judged %v after %v", i+1, ok, took)
				}
			}
		}
	})
}

// Under the alarm of an account, who mistypes in a strange network waits an
// hour, and is told so; without failures there, nobody waits.
func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		for i := range 500 {
			failed(t, g, at("anna", ipv4(i)))
		}
		guesser := at("anna", "203.0.113.9")
		for range alarmedNetwork.limit.Failures {
			if !failed(t, g, guesser) {
				t.Fatal("a network without failures is refused")
			}
		}
		if _, wait, err := g.begin(t.Context(), guesser); err != nil || wait != time.Hour {
			t.Errorf("after %d failures it waits %v, %v; want an hour", alarmedNetwork.limit.Failures, wait, err)
		}
		time.Sleep(time.Hour)
		if ok, _ := right(t, g, guesser); !ok {
			t.Error("after an hour it is refused")
		}
		time.Sleep(24 * time.Hour)
		for range 5 {
			failed(t, g, guesser)
		}
		if ok, took := right(t, g, guesser); !ok || took > longestTurn {
			t.Errorf("a day later: judged %v after %v", ok, took)
		}
	})
}

func TestSuccessForgivesTheNetworkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		home := at("anna", "192.0.2.1")
		for range 3 {
			for range 4 {
				failed(t, g, home)
			}
			if ok, took := right(t, g, home); !ok || took > 0 {
				t.Fatal("refused or late below the limit")
			}
			time.Sleep(time.Minute)
		}
		// The client's own counters stand: a login of one's own is no way to guess others.
		for i := range 10 {
			failed(t, g, at(fmt.Sprint("other-", i), "192.0.2.1"))
		}
		right(t, g, home)
		failed(t, g, at("other", "192.0.2.1"))
		if _, took := right(t, g, at("carla", "192.0.2.1")); took == 0 {
			t.Error("a success forgave what the client did to others")
		}
		if ok, took := right(t, g, at("carla", "192.0.2.2")); !ok || took > 0 {
			t.Error("the neighbour waits")
		}
	})
}

func TestDelayGrows(t *testing.T) {
	l := Limit{100, time.Hour}
	g := NewGuesses(GuessLimits{l, l, l, l, l, l, l, l, l})
	for _, shared := range []bool{false, true} {
		for i, milliseconds := range []int{1000, 1500, 2000, 2500, 3000, 3000} {
			want := time.Duration(milliseconds) * time.Millisecond
			q, _, err := g.begin(t.Context(), try{name: fmt.Sprint(shared), exists: true, addr: addr("192.0.2.1"), shared: shared})
			if err != nil {
				t.Fatal(err)
			}
			if got := q.fail(); got != want {
				t.Errorf("shared %v, failure %d: delay %v, want %v", shared, i+1, got, want)
			}
		}
	}
}

// Attempts at the same time count before they have failed, and those that turn
// out right keep nobody out.
func TestAtTheSameTime(t *testing.T) {
	for _, c := range []struct {
		name       string
		right      bool
		soon, late int // of 40 that begin at once: within half a second, and in the end
	}{
		{"guesses", false, 5, 5 + mostWaiting},
		{"logins of a program", true, 40, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGuesses(GuessLimits{})
				for range 4 * btoi(!c.right) {
					failed(t, g, at("anna", "192.0.2.1"))
				}
				want := c.soon - 4*btoi(!c.right)
				type result struct {
					judged bool
					after  time.Duration
				}
				results := make(chan result)
				began := time.Now()
				for range 40 {
					go func() {
						q, _, err := g.begin(t.Context(), at("anna", "192.0.2.1"))
						if err != nil {
							t.Error(err)
						}
						after := time.Since(began)
						if q != nil {
							time.Sleep(30 * time.Millisecond) // hashing
							if c.right {
								q.succeed()
							} else {
								q.fail()
							}
						}
						results <- result{q != nil, after}
					}()
				}
				soon, late := 0, 0
				for range 40 {
					r := <-results
					soon += btoi(r.judged && r.after < 500*time.Millisecond)
					late += btoi(r.judged)
				}
				if soon != want || c.right && late != c.late {
					t.Errorf("%d of 40 are judged at once and %d in all, want %d and %d", soon, late, want, c.late)
				}
			})
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		who := at("anna", "192.0.2.1")
		var held []*guess
		for range 5 {
			q, _, err := g.begin(t.Context(), who)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, q)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBusy)
		defer cancel()
		if _, _, err := g.begin(ctx, who); !errors.Is(err, errBusy) {
			t.Errorf("got %v, want errBusy", err)
		}
		for _, q := range held {
			q.abandon()
		}
		if n := g.size(); n != 0 {
			t.Errorf("%d counters are left of what was abandoned", n)
		}
	})
}

// Beyond what can wait for a turn, an attempt is told so at once.
func TestWhoWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		who := at("anna", "192.0.2.1")
		for range 30 {
			failed(t, g, who)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		for range mostWaiting {
			go func() {
				_, _, _ = g.begin(ctx, who) // it is ended while it waits
				done <- struct{}{}
			}()
		}
		synctest.Wait()
		if q, wait, err := g.begin(ctx, who); q != nil || wait == 0 || err != nil {
			t.Errorf("one more: %v, %v, %v", q, wait, err)
		}
		cancel()
		for range mostWaiting {
			<-done
		}
	})
}

// size is how many counters there are.
func (g *Guesses) size() (n int) {
	g.each(func(guessKey, *counter) { n++ })
	return n
}

// Strangers fill the counters, and what guards an account is not forgotten.
func TestCountersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		guesser := at("anna", "203.0.113.1")
		for range 30 {
			failed(t, g, guesser)
		}
		held, _, err := g.begin(t.Context(), try{name: "bert", exists: true, addr: addr("192.0.2.1")})
		if err != nil {
			t.Fatal(err)
		}
		for i := range maxCounters {
			failed(t, g, try{name: fmt.Sprint(i), addr: netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})})
		}
		for i, table := range g.counts {
			if n := len(table.entries); n > maxCounters || table.order.Len() != n {
				t.Errorf("%d counters in table %d", n, i)
			}
		}
		if _, took := right(t, g, guesser); took == 0 {
			t.Error("the failures of a real account were forgotten")
		}
		if c := g.counts[1].at(guessKey{ofNetwork, "bert", network(addr("192.0.2.1"))}); c == nil || c.pending != 1 {
			t.Error("the counter of an attempt under way was forgotten")
		}
		held.abandon()
	})
}

// An operator sees who waits, and lifts it.
func TestForgive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		g := NewGuesses(GuessLimits{})
		for range 7 {
			failed(t, g, at("anna", "192.0.2.1"))
			failed(t, g, at("anna/shop", "192.0.2.1"))
			failed(t, g, at("hunter2-is-secret", "192.0.2.77"))
		}
		var got []string
		for _, l := range g.Locked(s) {
			got = append(got, fmt.Sprintf("%s from %s: %d", l.Who, l.From, l.Failures))
		}
		want := "[ from 192.0.2.1/32: 14 an... from 192.0.2.0/24: 7 anna from 192.0.2.0/24: 7 hu... from 192.0.2.0/24: 7]"
		if fmt.Sprint(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		time.Sleep(30 * time.Second)
		waits := make(chan time.Duration)
		go func() {
			_, took := right(t, g, at("anna", "198.51.100.1"))
			waits <- took
		}()
		if took := <-waits; took != 0 {
			t.Errorf("elsewhere: %v", took)
		}
		known := at("anna", "192.0.2.1")
		known.familiar = true // so that what the client did to others is no matter
		failed(t, g, known)
		go func() {
			_, took := right(t, g, known)
			waits <- took
		}()
		synctest.Wait()
		g.Forgive("ANNA")
		if took := <-waits; took != 0 {
			t.Errorf("who waits when it is forgiven waits on for %v", took)
		}
		if list := g.Locked(s); len(list) != 2 {
			t.Errorf("after it: %+v", list)
		}
	})
}
