package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/door"
	"postern/plan"
	"postern/probe"
	"postern/verdict"
)

// Guessable logins are tried last of all, one after the other: a server that
// bans us for them has answered everything else.

const (
	guessSMTP = "auth-guess"
	// loginPause is between two tries. Accounts are locked, and clients banned,
	// by how many failures come within some minutes.
	loginPause = 2 * time.Second
	// maxWrong is how many wrong passwords one account is given. Many systems
	// lock it at the fifth, Windows domains by their usual policy at the tenth.
	maxWrong = 4
	// maxLost is after how many tries in a row without an answer the rest is
	// given up.
	maxLost = 3
)

// guesses returns the credentials to try at the target.
func (p *port) guesses() []plan.Credential {
	list := p.o.Logins
	if len(list) == 0 {
		list = plan.Logins()
	}
	var filled []plan.Credential
	for _, l := range list {
		l, ok := l.For(p.facts)
		if ok && !slices.ContainsFunc(filled, func(o plan.Credential) bool { return !l.Own && o.User == l.User }) {
			filled = append(filled, l)
		}
	}
	return filled
}

// A guess is a play with a login, in one of the ways to make it.
type guess struct {
	login plan.Credential
	way   probe.Way
}

// An account is one that is guessed at.
type account struct {
	todo  []guess
	wrong int
}

// accounts returns what is to be tried at each account: every name of it in
// every way, the likeliest first.
func accounts(list []plan.Credential, ways []probe.Way, names func(plan.Credential) []string) []account {
	var all []account
	for _, l := range list {
		a := account{}
		for _, w := range ways {
			for _, name := range names(l) {
				named := l
				named.User = name
				a.todo = append(a.todo, guess{named, w})
			}
		}
		all = append(all, a)
	}
	return all
}

// A guesser tries logins at one door and keeps what came of them.
type guesser struct {
	play   func(ctx context.Context, g guess) (verdict.Exchange, error)
	pause  time.Duration
	all    []account
	dead   []probe.Way // that the server does not take, whatever the password
	tried  int
	named  []string // of the users tried
	lost   int      // tries in a row without an answer
	last   verdict.Exchange
	worked verdict.Exchange // a login that was taken and led nowhere
	ended  string           // why the rest was given up
}

// run tries one login of each account after the other, round by round, so that
// the tries at one account lie far apart. It ends when a message was taken.
func (g *guesser) run(ctx context.Context) (verdict.Exchange, bool) {
	for more := true; more && g.ended == "" && ctx.Err() == nil; {
		more = false
		for i := range g.all {
			next, ok := g.next(&g.all[i])
			if !ok {
				continue
			}
			more = true
			if g.tried > 0 && sleep(ctx, g.pause) != nil {
				break
			}
			x, err := g.play(ctx, next)
			if g.heed(x, err, next, &g.all[i]) {
				return x, true
			}
			if g.ended != "" {
				break
			}
		}
	}
	return verdict.Exchange{}, false
}

// next takes the next try at an account.
func (g *guesser) next(a *account) (guess, bool) {
	for len(a.todo) > 0 && a.wrong < maxWrong {
		next := a.todo[0]
		a.todo = a.todo[1:]
		if !slices.Contains(g.dead, next.way) {
			return next, true
		}
	}
	return guess{}, false
}

// heed is told what came of a try; it returns true when its message was taken.
func (g *guesser) heed(x verdict.Exchange, err error, by guess, a *account) bool {
	g.tried++
	if !slices.Contains(g.named, by.login.User) {
		g.named = append(g.named, by.login.User)
	}
	atLogin := x.Stage == verdict.AtMove || x.Answer == verdict.WantsLogin
	switch {
	case err != nil, x.Outcome == verdict.Dropped, x.Outcome == verdict.Silent:
		a.wrong++ // for all we know
		if g.lost++; g.lost >= maxLost {
			g.ended = "then it turned us away"
		}
		return false
	case x.Outcome == verdict.Deferred && atLogin:
		g.ended = "then it put us off (" + x.Words() + ")"
	case x.Outcome == verdict.NotOffered, atLogin && otherwise(x):
		g.dead = append(g.dead, by.way)
	case atLogin:
		a.wrong++
	default:
		a.todo = nil // the account is known now
		g.worked = x
		return x.Outcome == verdict.Taken
	}
	g.lost, g.last = 0, x
	return false
}

// otherwise reports whether a refusal is about the way and not the password
// (RFC 4954 section 6).
func otherwise(x verdict.Exchange) bool {
	return slices.Contains([]int{500, 501, 502, 503, 504, 530, 534, 538}, x.Reply.Code)
}

// summary says in one sentence what was tried.
func (g *guesser) summary(ways []probe.Way) string {
	how := ""
	for _, w := range ways {
		if !slices.Contains(g.dead, w) && w.Mechanism != "" {
			how += ", " + w.String()
		}
	}
	if how != "" {
		how = " by " + how[2:]
	}
	tries := "1 try"
	if g.tried != 1 {
		tries = fmt.Sprintf("%d tries", g.tried)
	}
	text := tries + how + " as " + strings.Join(g.named, ", ")
	if g.ended != "" {
		text += "; " + g.ended
	}
	return text
}

// result makes the exchange of the form out of what the tries gave.
func (g *guesser) result(x verdict.Exchange, taken bool, ways []probe.Way, empty verdict.Exchange) verdict.Exchange {
	switch {
	case taken:
	case g.worked.Login != "":
		x = g.worked
	case g.ended != "" || g.tried == 0 || g.last.Form.ID == "":
		x = empty
		x.Why = cmp.Or(g.ended, "no login could be tried")
	default:
		x = g.last
	}
	x.Tries, x.Tried = g.tried, g.summary(ways)
	return x
}

// guessLogins plays the form that guesses at a mail server.
func (p *port) guessLogins(ctx context.Context) {
	if p.guess == nil {
		return
	}
	play := *p.guess
	x := verdict.Exchange{Form: play.Form, Envelope: play.Envelope, Token: play.Token, Outcome: verdict.NotRun, Stage: verdict.AtMove, At: time.Now()}
	if p.takesAny() {
		x.Outcome, x.Why = verdict.NotOffered, "it takes any login, so none need be guessed"
		p.battery.settle(x)
		return
	}
	ways, err := p.loginWays(ctx)
	switch {
	case err != nil:
		x.Why = err.Error()
	case len(ways) == 0:
		x.Outcome, x.Why, x.Tries = verdict.NotOffered, "EHLO shows no AUTH that takes a password", 1
	default:
		g := &guesser{
			pause: cmp.Or(p.o.LoginPause, loginPause),
			all:   accounts(p.guesses(), ways, func(l plan.Credential) []string { return l.Names(p.facts.Domain) }),
			play:  func(ctx context.Context, g guess) (verdict.Exchange, error) { return p.tryLogin(ctx, play, g) },
		}
		y, taken := g.run(ctx)
		x = g.result(y, taken, ways, x)
	}
	p.battery.settle(x)
}

func (p *port) loginWays(ctx context.Context) ([]probe.Way, error) {
	if err := p.pace.wait(ctx); err != nil {
		return nil, err
	}
	return p.battery.probe().LoginWays(ctx)
}

// takesAny reports whether the server let a login in that nobody has.
func (p *port) takesAny() bool {
	x := p.battery.outcome("auth-random")
	return x.Form.ID != "" && x.Outcome != verdict.NotRun && x.Outcome != verdict.NotOffered && x.Stage != verdict.AtMove && x.Outcome != verdict.Dropped && x.Outcome != verdict.Silent
}

func (p *port) tryLogin(ctx context.Context, play probe.Play, g guess) (verdict.Exchange, error) {
	if err := p.pace.wait(ctx); err != nil {
		return verdict.Exchange{}, err
	}
	p.progress(Playing, "the login "+g.login.User)
	play.Login = g.login
	x, err := p.battery.probe().PlayLogin(ctx, play, g.way)
	if errors.Is(err, probe.ErrTurnedAway) {
		p.pace.refused()
	}
	if err == nil && x.Stage != verdict.AtMove {
		x.Login = g.login.String() + ", by " + g.way.String()
	}
	return x, err
}

// guessAtProxy plays the form that guesses at a proxy.
func (p *port) guessAtProxy(ctx context.Context, play probe.Play, played map[string]verdict.Exchange) verdict.Exchange {
	x := verdict.Exchange{Form: play.Form, Envelope: play.Envelope, Token: play.Token, Outcome: verdict.NotOffered, Stage: verdict.AtProxy, Answer: verdict.Unsupported, At: time.Now()}
	asks := false
	for _, y := range played {
		asks = asks || y.Answer == verdict.WantsLogin
		if y.Form.Hole == "any-login" && y.Answer == verdict.Granted {
			x.Said = "it takes any login, so none need be guessed"
			return x
		}
	}
	if !asks {
		x.Said = "it asks for no login"
		return x
	}
	ways := []probe.Way{{}}
	g := &guesser{
		pause: cmp.Or(p.o.LoginPause, loginPause),
		all:   accounts(p.guesses(), ways, func(l plan.Credential) []string { return []string{l.User} }),
		play: func(ctx context.Context, g guess) (verdict.Exchange, error) {
			play.Login = g.login
			p.progress(Playing, "the login "+g.login.User)
			y := p.askProxy(ctx, play, nil)
			if y.Answer != "" && y.Answer != verdict.WantsLogin {
				y.Login = g.login.String()
			}
			return y, nil
		},
	}
	y, taken := g.run(ctx)
	x.Outcome, x.Stage, x.Answer = verdict.NotRun, verdict.AtConnect, ""
	return g.result(y, taken, ways, x)
}

// guesses reports whether a form is played with a list of logins.
func guesses(f plan.Form) bool {
	return f.Move.Name == guessSMTP || (f.Door == door.SOCKS || f.Door == door.Connect) && strings.HasSuffix(f.Move.Name, "-guess")
}
