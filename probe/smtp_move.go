package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/mail"
	"postern/smtp"
	"postern/transcript"
	"postern/verdict"
)

// A move is what a form does besides its envelope. Each part may be nil: then
// that part of the session goes its usual way.
type move struct {
	greet    func(s SMTP, p Play) (greeting, error)
	prepare  func(ctx context.Context, v *Visit, p Play) (verdict.Stage, mail.Reply, error)
	transact func(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error)
	early    bool // speaks before the banner, so that a refusal there is the answer to the form
	shared   bool // leaves the session as it was, so that other forms may follow
}

// errNotOffered is returned by a move that the server has no part in.
var errNotOffered = errors.New("not offered")

// moves are all that forms.tsv may name; a test holds the two together.
var moves = map[string]move{
	"":                {shared: true},
	"helo":            {greet: heloAs},
	"helo-only":       {greet: heloOnly},
	"no-helo":         {greet: noHelo},
	"early-talk":      {early: true, greet: earlyTalk, transact: earlyTransact},
	"proxy-v1":        {early: true, greet: greetProxyV1, prepare: proxyTaken},
	"proxy-v2":        {early: true, greet: greetProxyV2, prepare: proxyTaken},
	"xclient":         {prepare: xclient},
	"xclient-login":   {prepare: xclientLogin},
	"xforward":        {prepare: xforward},
	"starttls":        {prepare: startTLS},
	"starttls-cert":   {prepare: startTLSWithCertificate},
	"bdat":            {transact: bdat, shared: true},
	"after-local":     {transact: afterLocal, shared: true},
	"after-rset":      {transact: afterReset, shared: true},
	"data-anyway":     {transact: dataAnyway, shared: true},
	"smuggle":         {transact: smuggle},
	"auth-random":     {prepare: authRandom},
	"auth-empty":      {prepare: authEmpty},
	"auth-postmaster": {prepare: authPostmaster},
	"auth-guess":      {prepare: authGuess},
}

// Shared reports whether forms with that move can follow one another in one
// session; all others are played by PlayAlone.
func Shared(name string) bool { return moves[name].shared }

// playHere plays one form with a shared move in this session.
func (v *Visit) playHere(ctx context.Context, p Play) (verdict.Exchange, error) {
	m := moves[p.Form.Move.Name]
	if m.transact == nil {
		return v.transact(ctx, p)
	}
	x, err := m.transact(ctx, v, p)
	if errors.Is(err, errNotOffered) {
		return verdict.Exchange{
			Form: p.Form, Envelope: p.Envelope, Token: p.Token, Tries: 1, Transcript: v.record,
			Outcome: verdict.NotOffered, Stage: verdict.AtMove, Why: err.Error(), At: time.Now(),
		}, nil
	}
	return x, err
}

// Impossible reports, with the reason, that a server whose session began so
// has no part in a move, so that no session need be spent on it.
func Impossible(s verdict.Session, name string) (why string, impossible bool) {
	_, tls := s.Extensions["STARTTLS"]
	for _, n := range []struct {
		move, keyword string
		unless        bool
	}{
		{"xclient", "XCLIENT", false},
		{"xclient-login", "XCLIENT", false},
		{"xforward", "XFORWARD", false},
		{"starttls", "STARTTLS", false},
		{"starttls-cert", "STARTTLS", false},
		{"bdat", "CHUNKING", false},
		{"auth-random", "AUTH", tls},
		{"auth-empty", "AUTH", tls},
		{"auth-postmaster", "AUTH", tls},
		{"auth-guess", "AUTH", tls},
	} {
		if _, offered := s.Extensions[n.keyword]; n.move == name && !offered && !n.unless {
			return "EHLO does not show " + n.keyword, true
		}
	}
	return "", false
}

// Known reports whether the probe can play a move of that name.
func Known(name string) bool {
	_, ok := moves[name]
	return ok
}

// PlayAlone plays one form, with its move, in a session of its own. The error
// is that of a connection which never came to the form: nothing is known of
// the form then, and the exchange is NotRun.
func (p SMTP) PlayAlone(ctx context.Context, play Play) (verdict.Exchange, error) {
	return p.playAlone(ctx, play, moves[play.Form.Move.Name])
}

func (p SMTP) playAlone(ctx context.Context, play Play, m move) (verdict.Exchange, error) {
	record := &transcript.Transcript{}
	x := verdict.Exchange{Form: play.Form, Envelope: play.Envelope, Token: play.Token, Tries: 1, Transcript: record, Outcome: verdict.NotRun, Stage: verdict.AtConnect}
	g := p.greeting()
	if m.greet != nil {
		var err error
		if g, err = m.greet(p, play); err != nil {
			x.Why = err.Error()
			return x, nil
		}
	}
	v, err := p.open(ctx, record, g)
	if err != nil {
		return notReached(x, v, err)
	}
	defer v.Close()
	if b := v.Session.Banner; !b.Positive() {
		if m.early { // what it said so early may be what it is turned away for
			return v.exchange(play, verdict.AtBanner, b), nil
		}
		x.Why = "turned away: " + b.String()
		return x, v.TurnedAway()
	}
	if g.hello != "" && !v.Session.Hello.Positive() && m.prepare == nil {
		return v.exchange(play, verdict.AtHello, v.Session.Hello), nil
	}
	return v.playMove(ctx, m, play, x)
}

func (v *Visit) playMove(ctx context.Context, m move, p Play, x verdict.Exchange) (verdict.Exchange, error) {
	if m.prepare != nil {
		stage, r, err := m.prepare(ctx, v, p)
		switch {
		case errors.Is(err, errNotOffered):
			x.Outcome, x.Stage, x.Why, x.At, x.Reply = verdict.NotOffered, verdict.AtMove, err.Error(), time.Now(), r
			return x, nil
		case err != nil:
			return v.lost(x, verdict.AtMove, err)
		case !r.IsZero() && !r.Positive():
			return v.exchange(p, stage, r), nil
		}
	}
	play := (*Visit).transact
	if m.transact != nil {
		play = func(v *Visit, ctx context.Context, p Play) (verdict.Exchange, error) { return m.transact(ctx, v, p) }
	}
	done, err := play(v, ctx, p)
	if errors.Is(err, errNotOffered) {
		x.Outcome, x.Stage, x.Why, x.At = verdict.NotOffered, verdict.AtMove, err.Error(), time.Now()
		return x, nil
	}
	if err != nil {
		return v.lost(x, v.stage, err)
	}
	return done, nil
}

// Lost makes the exchange of a form at which the session ended, again and again.
func (v *Visit) Lost(p Play, err error) verdict.Exchange {
	x, _ := v.lost(verdict.Exchange{Form: p.Form, Envelope: p.Envelope, Token: p.Token, Tries: 1, Transcript: v.record}, v.stage, err)
	return x
}

// lost makes the exchange of a form in the middle of which the session ended.
func (v *Visit) lost(x verdict.Exchange, stage verdict.Stage, err error) (verdict.Exchange, error) {
	if errors.Is(err, context.Canceled) {
		x.Outcome, x.Why = verdict.NotRun, "stopped"
		return x, err
	}
	x.Stage, x.At = stage, time.Now()
	var closing *ClosingError
	switch {
	case errors.As(err, &closing):
		x.Outcome, x.Reply = verdict.Deferred, closing.Reply
	case errors.Is(err, smtp.ErrClosed):
		x.Outcome = verdict.Dropped
	default:
		x.Outcome = verdict.Silent
	}
	return x, nil
}

// notReached makes the exchange of a form whose session never began. A move
// that changes the beginning, such as a PROXY header, may itself be what the
// server hangs up on: that is an answer to the form.
func notReached(x verdict.Exchange, v *Visit, err error) (verdict.Exchange, error) {
	if v != nil && moves[x.Form.Move.Name].early && errors.Is(err, ErrNoBanner) && !errors.Is(err, context.Canceled) {
		x.Outcome, x.Stage, x.At = verdict.Dropped, verdict.AtMove, time.Now()
		if errors.Is(err, smtp.ErrTimeout) {
			x.Outcome = verdict.Silent
		}
		return x, nil
	}
	x.Why = fmt.Sprintf("no session: %v", err)
	return x, err
}
