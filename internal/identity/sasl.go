package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// maxPassword bounds what is hashed; no password of a person or a program is longer.
const maxPassword = 1024

// A mechanism is one way to log in (RFC 4422).
type mechanism struct {
	name    string
	offered func(*Login, *tls.ConnectionState) bool
	run     func(*Login, context.Context, *attempt) Result
}

func always(*Login, *tls.ConnectionState) bool { return true }

// mechanisms are all that there are, the strongest first.
var mechanisms = []mechanism{
	{"EXTERNAL", offersExternal, (*Login).external},
	{"SCRAM-SHA-256-PLUS", offersPlus, (*Login).scramPlus},
	{"SCRAM-SHA-256", always, (*Login).scram},
	{"PLAIN", always, (*Login).plain},
	{"LOGIN", always, (*Login).login},
}

// Options are what a Login is made of. Store is required.
type Options struct {
	Store     *Store
	Guesses   *Guesses       // nil: a new one with the default limits
	Pool      *Pool          // nil: a new one with the default size
	ClientCAs *x509.CertPool // who may issue client certificates; nil: there is no EXTERNAL
	// Mechanisms are those that are switched on; empty: all.
	Mechanisms []string
}

// A Login authenticates clients. It is safe for concurrent use; several
// listeners share one, so that guesses are counted together.
type Login struct {
	store     *Store
	guesses   *Guesses
	pool      *Pool
	clientCAs *x509.CertPool
	allowed   []string // in capitals; empty: all

	proven *proven
	dummy  verifier
	match  func(v verifier, password string) bool // verifier.matches, counted in tests
}

// NewLogin makes a Login.
func NewLogin(o Options) *Login {
	if o.Guesses == nil {
		o.Guesses = NewGuesses(GuessLimits{})
	}
	if o.Pool == nil {
		o.Pool = NewPool(0, 0, 0)
	}
	l := &Login{
		store: o.Store, guesses: o.Guesses, pool: o.Pool, clientCAs: o.ClientCAs,
		proven: newProven(), dummy: dummyArgon2id(), match: verifier.matches,
	}
	for _, name := range o.Mechanisms {
		l.allowed = append(l.allowed, strings.ToUpper(name))
	}
	if o.Store != nil {
		o.Store.Methods(l.allowed)
	}
	return l
}

// A Client is who wants to log in.
type Client struct {
	Addr   netip.Addr
	TLS    *tls.ConnectionState // nil without TLS
	Shared bool                 // many clients have this address; it is not counted against
	// Private says that somebody else answers for the secrecy of the connection:
	// the TLS of a proxy, or an operator who named the network. PLAIN alone is
	// taken then.
	Private bool
}

// A Result is how an attempt ended. The caller waits for Delay before it sends
// the reply; it holds nothing meanwhile. The zero Reply, after a challenge
// failed, says nothing.
type Result struct {
	Identity string // "user" or "user/token"; "" unless the reply is 235
	Reply    mail.Reply
	Delay    time.Duration
	Reason   string // for the log: what happened, names quoted, never a password
}

// Mechanisms returns what a client is offered, the strongest first: nothing
// without TLS.
func (l *Login) Mechanisms(state *tls.ConnectionState) []string {
	if state == nil {
		return nil
	}
	var names []string
	for _, m := range mechanisms {
		if l.allows(m.name) && m.offered(l, state) {
			names = append(names, m.name)
		}
	}
	return names
}

func (l *Login) allows(name string) bool {
	return len(l.allowed) == 0 || slices.Contains(l.allowed, name)
}

// MechanismNames returns all names that Options.Mechanisms may hold.
func MechanismNames() []string {
	names := make([]string, len(mechanisms))
	for i, m := range mechanisms {
		names[i] = m.name
	}
	return names
}

// An attempt is one AUTH command.
type attempt struct {
	client  Client
	initial []byte // nil: none was sent
	ask     func([]byte) ([]byte, error)
	began   time.Time
}

// first returns the client's first response (RFC 4954 section 4): the initial
// one, or that to an empty challenge.
func (a *attempt) first() ([]byte, error) {
	if a.initial != nil {
		return a.initial, nil
	}
	return a.ask(nil)
}

// Authenticate does one exchange. initial is nil when the client sent none,
// and empty when it sent "="; challenge sends a challenge and returns the
// response, both without base64.
func (l *Login) Authenticate(ctx context.Context, c Client, name string, initial []byte, challenge func([]byte) ([]byte, error)) Result {
	private := c.TLS == nil && c.Private && strings.EqualFold(name, "PLAIN") && l.allows("PLAIN")
	if c.TLS == nil && !private {
		return Result{
			Reply:  mail.NewReply(538, "5.7.11", "This login needs an encrypted connection; set security to TLS."),
			Reason: "login without TLS",
		}
	}
	i := slices.IndexFunc(mechanisms, func(m mechanism) bool { return strings.EqualFold(m.name, name) })
	if i < 0 {
		return Result{
			Reply:  mail.NewReply(504, "5.5.4", "We do not know this login method; choose "+l.choice(c.TLS)+"."),
			Reason: "unknown mechanism " + quote(name),
		}
	}
	m := mechanisms[i]
	if !l.allows(m.name) || !private && !m.offered(l, c.TLS) {
		return Result{
			Reply:  mail.NewReply(534, "5.7.9", "This login method is switched off; choose "+l.choice(c.TLS)+"."),
			Reason: m.name + " is not offered to this client",
		}
	}
	return m.run(l, ctx, &attempt{client: c, initial: initial, ask: challenge, began: time.Now()})
}

func (l *Login) choice(state *tls.ConnectionState) string {
	return strings.Join(l.Mechanisms(state), ", ")
}

// name shows the name of an account, or a part of what else was typed.
func (l *Login) name(s string) string { return quote(l.store.shown(s)) }

// quote shows a text that a stranger wrote: escaped and not too long.
func quote(s string) string {
	if len(s) > 2*maxName {
		s = s[:2*maxName] + "..."
	}
	return strconv.QuoteToASCII(s)
}

// accepted is the yes.
func (l *Login) accepted(c Client, identity, how string) Result {
	l.store.use(identity, time.Now())
	if !c.Shared {
		l.store.meet(identity, network(c.Addr))
	}
	return Result{Identity: identity, Reply: mail.NewReply(235, "2.7.0", "You are logged in."), Reason: quote(identity) + " logged in with " + how}
}

// denied is the no that says nothing but no. Its delay counts from the
// beginning, so that it does not tell what was computed meanwhile.
func denied(a *attempt, delay time.Duration, reason string) Result {
	return Result{
		Reply:  mail.NewReply(535, "5.7.8", "User name or password is wrong."),
		Delay:  max(0, delay-time.Since(a.began)),
		Reason: reason,
	}
}

// refused is for what is wrong before any password is looked at.
func refused(a *attempt, reason string) Result { return denied(a, time.Second, reason) }

// malformed answers what is not the mechanism's syntax (RFC 4954 section 4).
func malformed(reason string) Result {
	return Result{Reply: mail.NewReply(501, "5.5.2", "The login data are not as the method wants them."), Reason: reason}
}

func tooMany(name string, wait time.Duration) Result {
	minutes := int((wait + time.Minute - 1) / time.Minute)
	unit := "minutes"
	if minutes == 1 {
		unit = "minute"
	}
	return Result{
		Reply:  mail.NewReply(454, "4.7.0", fmt.Sprintf("Too many failed logins; wait %d %s.", minutes, unit)),
		Delay:  time.Second, // a program that asks again at once does so once a second
		Reason: name + ": too many failed logins",
	}
}

func busy(name string, err error) Result {
	return Result{
		Reply:  mail.NewReply(454, "4.7.0", "We cannot check passwords just now; try again soon."),
		Reason: name + ": " + err.Error(),
	}
}

// gone is the result when a challenge failed: whoever failed it answers.
func gone(err error) Result { return Result{Reason: "the client gave up: " + err.Error()} }

// find returns the account that a client names, nil if there is none, and the
// try that its guesses are counted under.
func (l *Login) find(c Client, name string) (*account, try) {
	t := try{addr: c.Addr, shared: c.Shared}
	user, token, err := parseIdentity(name)
	if err != nil {
		return nil, t // all that cannot exist count as one
	}
	t.name = join(user, token)
	a := l.store.account(t.name)
	t.exists = a != nil
	t.familiar = t.exists && !t.shared && l.store.knows(t.name, network(t.addr))
	return a, t
}

// sameName reports whether two names mean one identity.
func sameName(x, y string) bool {
	xu, xt, errX := parseIdentity(x)
	yu, yt, errY := parseIdentity(y)
	return errX == nil && errY == nil && xu == yu && xt == yt
}

// password checks a name and a password that were sent in clear, through TLS.
func (l *Login) password(ctx context.Context, a *attempt, name, password, how string) Result {
	if name == "" || password == "" || len(password) > maxPassword {
		return refused(a, l.name(name)+": a name or a password that is empty, or too long")
	}
	acc, t := l.find(a.client, name)
	deadline, cancel := context.WithTimeoutCause(ctx, l.pool.wait, errBusy)
	defer cancel()
	g, wait, err := l.guesses.begin(deadline, t)
	switch {
	case err != nil:
		return busy(l.name(name), err)
	case wait > 0:
		return tooMany(l.name(name), wait)
	}
	p, err := l.judge(ctx, acc, t, password, a.began)
	switch {
	case err != nil:
		g.abandon()
		return busy(l.name(name), err)
	case !p.right:
		return denied(a, g.fail(), l.name(name)+": "+p.reason)
	}
	g.succeed()
	r := l.accepted(a.client, acc.Identity, how)
	if p.fresh.password != nil {
		if err := l.store.upgrade(acc, p.fresh); err == nil {
			p.v, p.typed = p.fresh.password, p.fresh.form(password)
		} else { // the login holds; the next one tries again
			r.Reason += "; its verifier could not be made stronger: " + err.Error()
		}
	}
	if !p.known {
		l.proven.add(acc.Identity, p.v, p.typed, time.Now())
	}
	return r
}

// A judgement is what came of one password.
type judgement struct {
	v      verifier // it was held against this one
	typed  string   // in this form
	right  bool
	known  bool       // it was proven before, not hashed now
	fresh  credential // made where the account's is not as we make them today
	reason string     // why it is not right
}

// judge holds a password against an account's verifier. Without an account
// that may log in it does the same work on the dummy, and the answer is no.
func (l *Login) judge(ctx context.Context, acc *account, t try, password string, now time.Time) (judgement, error) {
	p := judgement{v: l.dummy, typed: password, reason: "no such user"}
	usable := acc.usable(now) && acc.credential.password != nil
	switch {
	case usable:
		p.v, p.typed, p.reason = acc.credential.password, acc.form(password), "wrong password"
	case acc != nil:
		p.reason = "disabled, expired, or without a password"
	}
	if l.proven.has(t.name, p.v, p.typed, now) {
		p.right, p.known = true, true
		return p, nil
	}
	var failed error
	err := l.pool.do(ctx, t.familiar, func() {
		p.right = l.match(p.v, p.typed) && usable
		if p.right && !acc.current(l.store.scramRounds()) {
			p.fresh, failed = newCredential(Secret(password), l.store.scramRounds())
		}
	})
	if failed != nil {
		p.fresh = credential{} // the old verifier serves on
	}
	return p, err
}
