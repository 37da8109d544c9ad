package identity

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// A Limit is how many failures are free in a time. The time begins with the
// first of them.
type Limit struct {
	Failures int
	In       time.Duration
}

// GuessLimits are how often somebody may fail to log in before it becomes dear.
// A client is an IPv4 address or an IPv6 /64; a network is an IPv4 /24 or an
// IPv6 /56, which is what one household or office is given; a site is an IPv6
// /48, which is what one customer may have.
//
// Beyond a limit of its own network, client or site an attempt takes its turn:
// one at a time, and each failure makes the next turn later. It is judged all
// the same: the right password is never refused for what others did. The last
// two limits are of what anybody anywhere can do, so they refuse and delay
// nobody: they give an alarm, under which networks that the account does not
// know have fewer failures free.
type GuessLimits struct {
	Network      Limit // of one account, from one network
	Known        Limit // of one account, from one network that it knows
	KnownAll     Limit // of all accounts together, from one network that they know
	Site         Limit // of one account, from one site
	Client       Limit // of one client, whatever the account
	ClientLonger Limit
	SiteLonger   Limit // of one site, whatever the account
	Account      Limit // of one account, from anywhere
	All          Limit // of everybody together
}

// DefaultGuessLimits leave room for a person who does not remember.
var DefaultGuessLimits = GuessLimits{
	Network:      Limit{5, 10 * time.Minute},
	Known:        Limit{100, 24 * time.Hour},
	KnownAll:     Limit{300, 24 * time.Hour},
	Site:         Limit{20, 10 * time.Minute},
	Client:       Limit{10, time.Minute},
	ClientLonger: Limit{50, 24 * time.Hour},
	SiteLonger:   Limit{200, 24 * time.Hour},
	Account:      Limit{500, 24 * time.Hour},
	All:          Limit{1000, time.Minute},
}

const (
	// Turns beyond a limit: the first failure costs the next turn a second, each
	// more another one. The longest is shorter than what clients wait for.
	turn, longestTurn = time.Second, 8 * time.Second
	// patience is how long an attempt waits for its turn; who would wait longer
	// is told so at once.
	patience = 10 * time.Second
	// mostWaiting attempts wait for the turns of one counter. Which of them is
	// next is left to chance, so that many who guess do not keep out one who knows.
	mostWaiting = 16
)

// Under the alarm of an account, a network that it does not know has so many
// failures a day free, and then a turn an hour: a botnet has as many guesses as
// it has networks and hours. Under the alarm of all, a client has so many free.
var (
	alarmedNetwork = rule{limit: Limit{3, 24 * time.Hour}, step: time.Hour, most: time.Hour}
	alarmedClient  = Limit{3, 10 * time.Minute}
)

// In a network that an account knows, turns grow over the day, or who guesses
// there would have a guess each 8 seconds at each account. An old password in a
// telephone fails some hundred times a day: each login of the account takes
// forgiven failures back, so that it does not keep out who knows the new one.
// Turns of all accounts are for those that failed suspected times there today:
// accounts at which nobody guesses do not wait for others.
const (
	knownTurn, longestKnownTurn       = 2 * time.Second, 5 * time.Minute
	knownAllTurn, longestKnownAllTurn = time.Second, 30 * time.Second
	forgiven                          = 10
	suspected                         = 3
)

// maxCounters bounds each kind of counter that strangers can cause, some 150
// octets each; when they are full the oldest is forgotten. Those of accounts
// that exist, of clients, and of invented names are kept apart, so that a flood
// of names does not wash away what was counted of an account.
const maxCounters = 1 << 16

// Guesses counts failed logins. It is safe for concurrent use.
type Guesses struct {
	limits GuessLimits

	mu     sync.Mutex
	counts [3]*recent[guessKey, counter] // what strangers can cause, by table
	ours   map[guessKey]*counter         // one for each account that exists, and All
}

// NewGuesses begins to count. Zero limits are the default.
func NewGuesses(l GuessLimits) *Guesses {
	if l == (GuessLimits{}) {
		l = DefaultGuessLimits
	}
	g := &Guesses{limits: l, ours: map[guessKey]*counter{}}
	for i := range g.counts {
		g.counts[i] = newRecent[guessKey](maxCounters, (*counter).busy)
	}
	return g
}

type guessKind uint8

const (
	ofNetwork guessKind = iota + 1
	ofSite
	ofSiteLonger
	ofClient
	ofClientLonger
	ofAccount
	ofAll
	ofKnown
	ofKnownAll
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
	waiting  int           // for a turn
	next     time.Time     // the next turn, once the limit is reached
	freed    chan struct{} // closed when an attempt ends; nil: nobody waits for that
}

// wake lets those who wait look again.
func (c *counter) wake() {
	if c.freed != nil {
		close(c.freed)
		c.freed = nil
	}
}

func (c *counter) busy() bool { return c.pending > 0 || c.waiting > 0 }

// try is one attempt to be somebody.
type try struct {
	name     string // the identity in its normal form; "" for one that cannot exist
	exists   bool
	addr     netip.Addr
	shared   bool // many clients have this address: it says nothing
	familiar bool // this account has logged in from this network before
}

// A guess is an attempt that was let through; one of its ends must be called.
type guess struct {
	of    *Guesses
	try   try
	rules []rule
}

// A rule is a counter with its limit, and how late turns become beyond it. The
// zero step is that of an alarm: nobody waits for it.
type rule struct {
	key        guessKey
	limit      Limit
	step, most time.Duration
}

// after returns how long after a failure the next turn is.
func (r rule) after(failures int) time.Duration {
	return min(time.Duration(failures-r.limit.Failures+1)*r.step, r.most)
}

func network(a netip.Addr) netip.Prefix { return prefix(a, 24, 56) }
func client(a netip.Addr) netip.Prefix  { return prefix(a, 32, 64) }
func site(a netip.Addr) netip.Prefix    { return prefix(a, 24, 48) }

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

// rules returns what counts a try. In a network that the account is known to
// use, its own failures there make it wait, and what others do there to other
// accounts only when somebody guesses at it too; its failures count for
// strangers all the same. An address that is shared says nothing, so that all of
// it is one network of the account, and nobody bans a gateway.
func (g *Guesses) rules(t try, now time.Time) []rule {
	own := func(kind guessKind, name string, where netip.Prefix, l Limit) rule {
		return rule{guessKey{kind, name, where}, l, turn, longestTurn}
	}
	account, all := rule{key: guessKey{kind: ofAccount, name: t.name}, limit: g.limits.Account}, rule{key: guessKey{kind: ofAll}, limit: g.limits.All}
	if t.shared {
		return []rule{own(ofNetwork, t.name, netip.Prefix{}, g.limits.Network), account, all}
	}
	where := network(t.addr)
	of := own(ofNetwork, t.name, where, g.limits.Network)
	if t.familiar {
		known := rule{guessKey{ofKnown, t.name, where}, g.limits.Known, knownTurn, longestKnownTurn}
		knownAll := rule{key: guessKey{kind: ofKnownAll, where: where}, limit: g.limits.KnownAll}
		if c := g.look(t, known, now); c != nil && c.failures+c.pending >= suspected {
			knownAll.step, knownAll.most = knownAllTurn, longestKnownAllTurn
		}
		return []rule{
			of, known, knownAll, account, all,
			{key: guessKey{ofClient, "", client(t.addr)}, limit: g.limits.Client},
			{key: guessKey{ofClientLonger, "", client(t.addr)}, limit: g.limits.ClientLonger},
		}
	}
	if g.reached(t, account, now) {
		of.limit, of.step, of.most = alarmedNetwork.limit, alarmedNetwork.step, alarmedNetwork.most
	}
	each := g.limits.Client
	if g.reached(t, all, now) {
		each = alarmedClient
	}
	rules := []rule{of, own(ofClient, "", client(t.addr), each), own(ofClientLonger, "", client(t.addr), g.limits.ClientLonger), account, all}
	if t.addr.Unmap().Is6() {
		rules = append(rules, own(ofSite, t.name, site(t.addr), g.limits.Site), own(ofSiteLonger, "", site(t.addr), g.limits.SiteLonger))
	}
	return rules
}

func (g *Guesses) reached(t try, r rule, now time.Time) bool {
	c := g.look(t, r, now)
	return c != nil && c.failures >= r.limit.Failures
}

// lasting reports whether a counter is one of those that are not forgotten early.
func (t try) lasting(k guessKey) bool { return k.kind == ofAll || k.kind == ofAccount && t.exists }

// table returns where a counter is kept.
func (g *Guesses) table(t try, k guessKey) *recent[guessKey, counter] {
	switch {
	case k.kind == ofClient || k.kind == ofClientLonger || k.kind == ofSiteLonger || k.kind == ofKnownAll:
		return g.counts[0]
	case t.exists:
		return g.counts[1]
	}
	return g.counts[2]
}

// look returns a counter whose time is not over, or nil.
func (g *Guesses) look(t try, r rule, now time.Time) *counter {
	c := g.ours[r.key]
	if !t.lasting(r.key) {
		c = g.table(t, r.key).at(r.key)
	}
	if c != nil && now.Sub(c.start) >= r.limit.In {
		c.failures, c.next = 0, time.Time{}
	}
	return c
}

// count returns a counter, made if there is none.
func (g *Guesses) count(t try, r rule) *counter {
	if !t.lasting(r.key) {
		return g.table(t, r.key).touch(r.key)
	}
	c := g.ours[r.key]
	if c == nil {
		c = &counter{}
		g.ours[r.key] = c
	}
	return c
}

// drop forgets a counter that counts nothing.
func (g *Guesses) drop(t try, k guessKey, c *counter) {
	if c.failures > 0 || c.busy() {
		return
	}
	delete(g.ours, k)
	g.table(t, k).drop(k)
}

// turnOf returns what t has to wait for: nil for nothing, else a counter, and
// how long; zero is until an attempt under way has ended. full says that too
// many wait there already.
func (g *Guesses) turnOf(t try, rules []rule, now time.Time) (at *counter, wait time.Duration, full bool) {
	for _, r := range rules {
		c := g.look(t, r, now)
		if c == nil || r.step == 0 || c.failures+c.pending < r.limit.Failures {
			continue
		}
		left := max(0, c.next.Sub(now))
		// Below the limit several may fail at once; beyond it one at a time.
		if left == 0 && c.pending == 0 {
			continue
		}
		if at == nil || left > wait {
			at, wait = c, left
		}
		full = full || c.failures >= r.limit.Failures && c.waiting >= mostWaiting
	}
	return at, wait, full
}

// begin lets an attempt through when it is its turn, or says how long to wait
// before the next one. When attempts under way may use up what is left, it waits
// for their end: twenty logins at once by the right program are no failures.
// The error is the context's.
func (g *Guesses) begin(ctx context.Context, t try) (*guess, time.Duration, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for waited := false; ; waited = true {
		now := time.Now()
		rules := g.rules(t, now)
		at, wait, full := g.turnOf(t, rules, now)
		switch {
		case at == nil:
			for _, r := range rules {
				g.count(t, r).pending++
			}
			return &guess{g, t, rules}, 0, nil
		case wait > patience:
			return nil, wait, nil
		case full && !waited:
			return nil, max(wait, turn), nil
		}
		if err := g.sleep(ctx, at, wait); err != nil {
			return nil, 0, err
		}
	}
}

// sleep waits for a turn of a counter, or for the end of an attempt that it
// counts. The mutex is held before and after, not meanwhile.
func (g *Guesses) sleep(ctx context.Context, c *counter, wait time.Duration) error {
	c.waiting++
	if c.freed == nil {
		c.freed = make(chan struct{})
	}
	freed := c.freed
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		c.waiting--
	}()
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-freed:
	case <-over:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// end settles the counters of a guess and lets others look again.
func (q *guess) end(failed bool) (most int) {
	g := q.of
	now := time.Now()
	for _, r := range q.rules {
		c := g.count(q.try, r)
		if now.Sub(c.start) >= r.limit.In {
			c.failures, c.next = 0, time.Time{}
		}
		c.pending = max(0, c.pending-1)
		if failed {
			if c.failures == 0 {
				c.start = now
			}
			c.failures++
			if r.step > 0 && c.failures >= r.limit.Failures {
				c.next = now.Add(r.after(c.failures))
			}
			if r.key.kind == ofNetwork {
				most = c.failures
			}
		}
		c.wake()
		g.drop(q.try, r.key, c)
	}
	return most
}

// fail counts a failure and returns how long its reply should take from the
// beginning of the attempt: one second at first, three from the fifth on.
func (q *guess) fail() time.Duration {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	return min(time.Second+time.Duration(q.end(true)-1)*500*time.Millisecond, 3*time.Second)
}

// succeed forgets the account's failures in this network, and some of the day's. What the client did
// to others stands: a login of one's own is no way to guess on.
func (q *guess) succeed() {
	g := q.of
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.count(q.try, q.rules[0]) // that of the network
	c.failures, c.next = 0, time.Time{}
	for _, r := range q.rules {
		if r.key.kind == ofKnown {
			c := g.count(q.try, r)
			c.failures, c.next = max(0, c.failures-forgiven), time.Time{}
		}
	}
	q.end(false)
}

// abandon ends a guess that was not decided.
func (q *guess) abandon() {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	q.end(false)
}

// Forgive forgets the failures of a user and of its tokens everywhere: the
// operator has looked, or the password is another one.
func (g *Guesses) Forgive(user string) {
	name, err := parseName(user)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.each(func(k guessKey, c *counter) {
		if k.name == name || strings.HasPrefix(k.name, name+"/") {
			c.failures, c.next = 0, time.Time{}
			c.wake()
		}
	})
}

// each calls f for every counter.
func (g *Guesses) each(f func(guessKey, *counter)) {
	for k, c := range g.ours {
		f(k, c)
	}
	for _, table := range g.counts {
		for k := range table.entries {
			f(k, table.at(k))
		}
	}
}
