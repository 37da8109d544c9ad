package identity

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// A Limit is how many failures are let happen in a time. The time begins with
// the first of them.
type Limit struct {
	Failures int
	In       time.Duration
}

// GuessLimits are how often somebody may fail to log in. A client is an IPv4
// address or an IPv6 /64; a network is an IPv4 /24 or an IPv6 /56, which is
// what one household or office is given.
type GuessLimits struct {
	Network      Limit // of one account, from one network
	Client       Limit // of one client, whatever the account
	ClientLonger Limit
	Account      Limit // of one account, from anywhere
	All          Limit // of everybody together
}

// DefaultGuessLimits leave room for a person who does not remember. The last
// keeps a botnet of many addresses and names from trying for ever.
var DefaultGuessLimits = GuessLimits{
	Network:      Limit{5, 10 * time.Minute},
	Client:       Limit{10, time.Minute},
	ClientLonger: Limit{50, 24 * time.Hour},
	Account:      Limit{500, 24 * time.Hour},
	All:          Limit{1000, time.Minute},
}

const (
	// maxCounters bounds the counters that strangers can cause, some 150
	// octets each. When they are full the oldest is forgotten, and that is
	// safe: All lets 10,000 failures happen in the time of Network, each makes
	// three counters, so none is forgotten before its ten minutes are over;
	// and the counters that guard real accounts are kept apart and never
	// forgotten early, because the operator decides how many there are. To
	// refuse instead would let a stranger shut out everybody.
	maxCounters = 1 << 16
	// A network from which a user logged in is that user's for a month.
	familiarFor   = 30 * 24 * time.Hour
	familiarLimit = 32 // networks of one user
)

// Guesses counts failed logins. It is safe for concurrent use.
type Guesses struct {
	limits GuessLimits

	mu       sync.Mutex
	strange  *recent[guessKey, counter] // what strangers can cause
	ours     map[guessKey]*counter      // one for each account that exists, and All
	familiar map[string]*recent[netip.Prefix, time.Time]
	freed    chan struct{} // closed when a pending attempt ends
}

// NewGuesses begins to count. Zero limits are the default.
func NewGuesses(l GuessLimits) *Guesses {
	if l == (GuessLimits{}) {
		l = DefaultGuessLimits
	}
	return &Guesses{
		limits: l, strange: newRecent[guessKey](maxCounters, (*counter).busy), ours: map[guessKey]*counter{},
		familiar: map[string]*recent[netip.Prefix, time.Time]{}, freed: make(chan struct{}),
	}
}

type guessKind uint8

const (
	ofNetwork guessKind = iota + 1
	ofClient
	ofClientLonger
	ofAccount
	ofAll
)

type guessKey struct {
	kind  guessKind
	name  string
	where netip.Prefix
}

// A counter counts failures since start. Attempts that are under way count as
// failures until they are known not to be: many at once are no way around it.
type counter struct {
	start    time.Time
	failures int
	pending  int
}

func (c *counter) busy() bool { return c.pending > 0 }

// try is one attempt to be somebody.
type try struct {
	name   string // the identity in its normal form; "" for one that cannot exist
	exists bool
	addr   netip.Addr
	shared bool // many clients have this address: it says nothing
}

// A guess is an attempt that was let through; one of its ends must be called.
type guess struct {
	of    *Guesses
	try   try
	rules []rule
}

type rule struct {
	key   guessKey
	limit Limit
}

func network(a netip.Addr) netip.Prefix { return prefix(a, 24, 56) }
func client(a netip.Addr) netip.Prefix  { return prefix(a, 32, 64) }

// prefix returns the zero Prefix of the zero address: clients without an
// address are one client.
func prefix(a netip.Addr, v4, v6 int) netip.Prefix {
	a = a.Unmap()
	bits := v6
	if a.Is4() {
		bits = v4
	}
	p, _ := a.Prefix(bits)
	return p
}

// rules returns what limits a try. In a network that the user is known to use,
// the failures of others elsewhere do not count: otherwise whoever guesses
// could lock the user out. An address that is shared says nothing, so only
// what is not about addresses counts, and nobody bans a gateway.
func (g *Guesses) rules(t try, now time.Time) []rule {
	var rules []rule
	if !t.shared {
		where := network(t.addr)
		rules = append(rules,
			rule{guessKey{ofNetwork, t.name, where}, g.limits.Network},
			rule{guessKey{ofClient, "", client(t.addr)}, g.limits.Client},
			rule{guessKey{ofClientLonger, "", client(t.addr)}, g.limits.ClientLonger})
		if f := g.familiar[t.name]; f != nil {
			if until := f.at(where); until != nil && now.Before(*until) {
				return rules
			}
		}
	}
	return append(rules, rule{guessKey{kind: ofAccount, name: t.name}, g.limits.Account}, rule{guessKey{kind: ofAll}, g.limits.All})
}

// lasting reports whether a counter is one of those that are not forgotten early.
func (t try) lasting(k guessKey) bool { return k.kind == ofAll || k.kind == ofAccount && t.exists }

// look returns a counter whose time is not over, or nil.
func (g *Guesses) look(t try, r rule, now time.Time) *counter {
	c := g.strange.at(r.key)
	if t.lasting(r.key) {
		c = g.ours[r.key]
	}
	if c != nil && now.Sub(c.start) >= r.limit.In {
		c.failures = 0
	}
	return c
}

// count returns a counter, made if there is none.
func (g *Guesses) count(t try, r rule) *counter {
	if !t.lasting(r.key) {
		return g.strange.touch(r.key)
	}
	c := g.ours[r.key]
	if c == nil {
		c = &counter{}
		g.ours[r.key] = c
	}
	return c
}

// full returns how long t has to wait, zero if it has not, and whether it could
// be let through once attempts that are under way have ended.
func (g *Guesses) full(t try, rules []rule, now time.Time) (wait time.Duration, crowded bool) {
	for _, r := range rules {
		c := g.look(t, r, now)
		switch {
		case c == nil:
		case c.failures >= r.limit.Failures:
			wait = max(wait, c.start.Add(r.limit.In).Sub(now))
		case c.failures+c.pending >= r.limit.Failures:
			crowded = true
		}
	}
	return wait, crowded
}

// blocked returns how long t has to wait, zero if it has not.
func (g *Guesses) blocked(t try) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	wait, _ := g.full(t, g.rules(t, now), now)
	return wait
}

// begin lets an attempt through, or says how long to wait before the next one.
// When attempts under way may use up what is left, it waits for their end:
// twenty logins at once by the right program are no failures. The error is the
// context's.
func (g *Guesses) begin(ctx context.Context, t try) (*guess, time.Duration, error) {
	for {
		g.mu.Lock()
		now := time.Now()
		rules := g.rules(t, now)
		wait, crowded := g.full(t, rules, now)
		if wait == 0 && !crowded {
			for _, r := range rules {
				g.count(t, r).pending++
			}
			g.mu.Unlock()
			return &guess{g, t, rules}, 0, nil
		}
		freed := g.freed
		g.mu.Unlock()
		if wait > 0 {
			return nil, wait, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// end settles the counters of a guess and lets others look again.
func (q *guess) end(failed bool) (most int) {
	g := q.of
	now := time.Now()
	for _, r := range q.rules {
		c := g.count(q.try, r)
		if now.Sub(c.start) >= r.limit.In {
			c.failures = 0
		}
		c.pending = max(0, c.pending-1)
		if failed {
			if c.failures == 0 {
				c.start = now
			}
			c.failures++
			if r.key.kind == ofNetwork || q.try.shared && r.key.kind == ofAccount {
				most = c.failures
			}
		}
		if c.failures == 0 && c.pending == 0 {
			delete(g.ours, r.key)
			g.strange.drop(r.key)
		}
	}
	close(g.freed)
	g.freed = make(chan struct{})
	return most
}

// fail counts a failure and returns how long its reply should take from the
// beginning of the attempt: one second at first, three from the fifth on.
func (q *guess) fail() time.Duration {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	return min(time.Second+time.Duration(q.end(true)-1)*500*time.Millisecond, 3*time.Second)
}

// succeed forgets the account's failures in this network, and remembers that
// the account is used there.
func (q *guess) succeed() {
	g := q.of
	g.mu.Lock()
	defer g.mu.Unlock()
	q.end(false)
	if q.try.shared {
		return
	}
	where := network(q.try.addr)
	if key := (guessKey{ofNetwork, q.try.name, where}); g.strange.at(key) != nil {
		if c := g.strange.touch(key); c.pending > 0 {
			c.failures = 0
		} else {
			g.strange.drop(key)
		}
	}
	f := g.familiar[q.try.name]
	if f == nil {
		f = newRecent[netip.Prefix, time.Time](familiarLimit, nil)
		g.familiar[q.try.name] = f
	}
	*f.touch(where) = time.Now().Add(familiarFor)
}

// abandon ends a guess that was not decided.
func (q *guess) abandon() {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	q.end(false)
}
