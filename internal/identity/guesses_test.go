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

// failed makes one wrong guess; it reports whether it was let through.
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

// right logs in; it reports whether that was let through.
func right(tb testing.TB, g *Guesses, t try) bool {
	tb.Helper()
	q, _, err := g.begin(tb.Context(), t)
	if err != nil {
		tb.Fatal(err)
	}
	if q != nil {
		q.succeed()
	}
	return q != nil
}

func TestGuessLimits(t *testing.T) {
	one := func(a string) func(int) netip.Addr { return func(int) netip.Addr { return addr(a) } }
	anna := func(int) string { return "anna" }
	many := func(i int) string { return fmt.Sprintf("user-%d", i) }
	for _, c := range []struct {
		name   string
		from   func(int) netip.Addr
		who    func(int) string
		shared bool
		every  time.Duration
		want   int // how many of 2000 are let through
	}{
		{"one account, one address, at once", one("192.0.2.1"), anna, false, 0, 5},
		{"one account, one address, patiently", one("192.0.2.1"), anna, false, 10 * time.Minute, 14 * 50},
		{"one account, all of a /24", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }, anna, false, 0, 5},
		{"one account, all of a /56", func(i int) netip.Addr { return addr(fmt.Sprintf("2001:db8:0:%x::1", i%256)) }, anna, false, 0, 5},
		{"many accounts, one address", one("192.0.2.1"), many, false, 0, 10},
		{"many accounts, one address in its other form", one("::ffff:192.0.2.1"), many, false, 0, 10},
		{"many accounts, one address, all day", one("192.0.2.1"), many, false, 10 * time.Second, 50},
		{"many accounts, one /64", func(i int) netip.Addr { return addr(fmt.Sprintf("2001:db8::%x", i)) }, many, false, 0, 10},
		{"one account, many networks", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}) }, anna, false, 0, 500},
		{"many accounts, many networks: everybody together", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}) }, many, false, 0, 1000},
		{"a shared address bans nobody", one("172.17.0.1"), many, true, 70 * time.Millisecond, 2000},
		{"a shared address and one account", one("172.17.0.1"), anna, true, 0, 500},
		{"no address at all", func(int) netip.Addr { return netip.Addr{} }, many, false, 0, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := NewGuesses(GuessLimits{})
			got := 0
			for i := range 2000 {
				if failed(t, g, try{c.who(i), c.who(i) == "anna", c.from(i), c.shared}) {
					got++
				}
				time.Sleep(c.every)
			}
			if got != c.want {
				t.Errorf("%s: %d guesses of 2000 are let through, want %d", c.name, got, c.want)
			}
		})
	}
}

// 10^5 guesses in a day, and the user still logs in: from the own network with
// whatever the guessers do, and from a new one while the limits last.
func TestUserLogsInWhileGuessed(t *testing.T) {
	for _, addresses := range []int{1, 256, 10000} {
		synctest.Test(t, func(t *testing.T) {
			g := NewGuesses(GuessLimits{})
			home := try{"anna", true, addr("198.51.100.7"), false}
			if !right(t, g, home) {
				t.Fatal("the first login is refused")
			}
			through := 0
			for i := range 100_000 {
				n := i % addresses
				guesser := try{"anna", true, netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), byte(n)}), false}
				if failed(t, g, guesser) {
					through++
				}
				if i%1000 == 0 && !right(t, g, home) {
					t.Errorf("%d addresses: after %d guesses the user cannot log in at home", addresses, i)
				}
				time.Sleep(860 * time.Millisecond)
			}
			if through > 1000 { // 500 a day, and a day may begin within
				t.Errorf("%d addresses: %d guesses at one account within a day", addresses, through)
			}
			abroad := try{"anna", true, addr("2001:db8:7::1"), false}
			if got, want := right(t, g, abroad), addresses == 1; got != want {
				t.Errorf("%d addresses: from a new network: %v, want %v", addresses, got, want)
			}
			time.Sleep(24 * time.Hour)
			if !right(t, g, abroad) {
				t.Errorf("%d addresses: a day later a new network is still refused", addresses)
			}
		})
	}
}

func TestSuccessForgivesTheNetworkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		home := try{"anna", true, addr("192.0.2.1"), false}
		for range 3 {
			for range 4 {
				failed(t, g, home)
			}
			if !right(t, g, home) {
				t.Fatal("refused below the limit")
			}
			time.Sleep(time.Minute)
		}
		// The client's own counters stand: a login of one's own is no way to guess others.
		for i := range 10 {
			failed(t, g, try{fmt.Sprint("other-", i), true, addr("192.0.2.1"), false})
		}
		if !right(t, g, home) && !right(t, g, try{"anna", true, addr("192.0.2.3"), false}) {
			t.Error("the user is refused from the next address")
		}
		if failed(t, g, try{"carla", true, addr("192.0.2.1"), false}) {
			t.Error("a success forgave what the client did to others")
		}
		if !right(t, g, try{"carla", true, addr("192.0.2.2"), false}) {
			t.Error("the neighbour is refused")
		}
	})
}

func TestFamiliarNetworkIsForgottenAfterAMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		home := try{"anna", true, addr("192.0.2.1"), false}
		right(t, g, home)
		time.Sleep(familiarFor)
		for i := range 500 {
			failed(t, g, try{"anna", true, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), false})
		}
		if right(t, g, home) {
			t.Error("a network that was not used for a month is still familiar")
		}
	})
}

func TestDelayGrows(t *testing.T) {
	g := NewGuesses(GuessLimits{Network: Limit{100, time.Hour}, Client: Limit{100, time.Hour}, ClientLonger: Limit{100, time.Hour}, Account: Limit{100, time.Hour}, All: Limit{100, time.Hour}})
	for _, shared := range []bool{false, true} {
		for i, milliseconds := range []int{1000, 1500, 2000, 2500, 3000, 3000} {
			want := time.Duration(milliseconds) * time.Millisecond
			q, _, err := g.begin(t.Context(), try{fmt.Sprint(shared), true, addr("192.0.2.1"), shared})
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
		name  string
		right bool
		want  int // of 40 that begin at once
	}{
		{"guesses", false, 5},
		{"logins of a program", true, 40},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := NewGuesses(GuessLimits{})
			results := make(chan bool)
			for range 40 {
				go func() {
					q, _, err := g.begin(t.Context(), try{"anna", true, addr("192.0.2.1"), false})
					if err != nil {
						t.Error(err)
					}
					if q != nil {
						time.Sleep(30 * time.Millisecond) // hashing
						if c.right {
							q.succeed()
						} else {
							q.fail()
						}
					}
					results <- q != nil
				}()
			}
			through := 0
			for range 40 {
				if <-results {
					through++
				}
			}
			if through != c.want {
				t.Errorf("%s: %d of 40 let through, want %d", c.name, through, c.want)
			}
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{})
		who := try{"anna", true, addr("192.0.2.1"), false}
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
		if len(g.strange.entries) != 0 || len(g.ours) != 0 {
			t.Errorf("%d and %d counters are left of what was abandoned", len(g.strange.entries), len(g.ours))
		}
	})
}

// Strangers fill the counters, and what guards a real account is not forgotten.
func TestCountersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(GuessLimits{Network: Limit{5, time.Hour}, Client: Limit{10, time.Hour}, ClientLonger: Limit{50, time.Hour}, Account: Limit{3, 24 * time.Hour}, All: Limit{1 << 30, time.Hour}})
		for i := range 3 {
			failed(t, g, try{"anna", true, netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), false})
		}
		held, _, err := g.begin(t.Context(), try{"bert", true, addr("192.0.2.1"), false})
		if err != nil {
			t.Fatal(err)
		}
		for i := range maxCounters {
			failed(t, g, try{fmt.Sprint(i), false, netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), false})
		}
		if n := len(g.strange.entries); n != maxCounters || g.strange.order.Len() != n {
			t.Errorf("%d counters, want %d", n, maxCounters)
		}
		if failed(t, g, try{"anna", true, addr("203.0.113.1"), false}) {
			t.Error("the failures of a real account were forgotten")
		}
		if c := g.strange.at(guessKey{ofNetwork, "bert", network(addr("192.0.2.1"))}); c == nil || c.pending != 1 {
			t.Error("the counter of an attempt under way was forgotten")
		}
		held.abandon()
	})
}
