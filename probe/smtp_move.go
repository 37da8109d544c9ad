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
}

// errNotOffered is returned by a move that the server has no part in.
var errNotOffered = errors.New("not offered")

// moves are all that forms.tsv may name; a test holds the two together.
var moves = map[string]move{
	"":                {},
	"helo":            {greet: heloAs},
	"helo-only":       {greet: heloOnly},
	"no-helo":         {greet: noHelo},
	"early-talk":      {greet: earlyTalk, transact: earlyTransact},
	"proxy-v1":        {greet: greetProxyV1, prepare: proxyTaken},
	"proxy-v2":        {greet: greetProxyV2, prepare: proxyTaken},
	"xclient":         {prepare: xclient},
	"xclient-login":   {prepare: xclientLogin},
	"xforward":        {prepare: xforward},
	"starttls":        {prepare: startTLS},
	"starttls-cert":   {prepare: startTLSWithCertificate},
	"bdat":            {transact: bdat},
	"after-local":     {transact: afterLocal},
	"after-rset":      {transact: afterReset},
	"data-anyway":     {transact: dataAnyway},
	"smuggle":         {transact: smuggle},
	"auth-random":     {prepare: authRandom},
	"auth-empty":      {prepare: authEmpty},
	"auth-postmaster": {prepare: authPostmaster},
}

// Known reports whether the probe can play a move of that name.
func Known(name string) bool {
	_, ok := moves[name]
	return ok
}

// PlayAlone plays one form, with its move, in a session of its own. The error
// is that of a connection which never came to the form: nothing is known of
// the form then, and the exchange is NotRun.
func (s SMTP) PlayAlone(ctx context.Context, p Play) (verdict.Exchange, error) {
	record := &transcript.Transcript{}
	x := verdict.Exchange{Form: p.Form, Envelope: p.Envelope, Token: p.Token, Tries: 1, Transcript: record, Outcome: verdict.NotRun, Stage: verdict.AtConnect}
	m := moves[p.Form.Move.Name]
	g := greeting{hello: "EHLO", name: s.Helo}
	if m.greet != nil {
		var err error
		if g, err = m.greet(s, p); err != nil {
			x.Why = err.Error()
			return x, nil
		}
	}
	v, err := s.open(ctx, record, g)
	if err != nil {
		return notReached(x, v, err)
	}
	defer v.Close()
	if !v.Session.Banner.Positive() {
		return v.exchange(p, verdict.AtBanner, v.Session.Banner), nil
	}
	if g.hello != "" && !v.Session.Hello.Positive() {
		return v.exchange(p, verdict.AtHello, v.Session.Hello), nil
	}
	return v.playMove(ctx, m, p, x)
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
		return v.lost(x, verdict.AtMail, err)
	}
	return done, nil
}

// lost makes the exchange of a form in the middle of which the session ended.
func (v *Visit) lost(x verdict.Exchange, stage verdict.Stage, err error) (verdict.Exchange, error) {
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
	if v != nil && x.Form.Move.Name != "" && moves[x.Form.Move.Name].greet != nil && errors.Is(err, ErrNoBanner) {
		x.Outcome, x.Stage, x.At = verdict.Dropped, verdict.AtMove, time.Now()
		return x, nil
	}
	x.Why = fmt.Sprintf("no session: %v", err)
	return x, err
}
