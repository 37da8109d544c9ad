package probe

import (
	"context"

	"postern/mail"
	"postern/verdict"
)

// heloAs gives another name in EHLO than ours, in a session of its own: not
// every server takes a second EHLO to heart.
func heloAs(s SMTP, p Play) (greeting, error) {
	g := s.greeting()
	g.name = p.Envelope.MoveArg
	return g, nil
}

// heloOnly says HELO, which some servers send through other rules.
func heloOnly(s SMTP, _ Play) (greeting, error) { return greeting{hello: "HELO", name: s.Helo}, nil }

// noHelo says nothing before MAIL.
func noHelo(SMTP, Play) (greeting, error) { return greeting{}, nil }

// earlyTalk sends the whole envelope before the banner has come.
func earlyTalk(s SMTP, p Play) (greeting, error) {
	v := &Visit{smtp: s}
	return greeting{prefix: []byte("EHLO " + s.Helo + "\r\n" + v.mailLine(p) + v.rcptLine(p))}, nil
}

// earlyTransact reads the answers to what earlyTalk sent.
func earlyTransact(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error) {
	var r mail.Reply
	for _, stage := range []verdict.Stage{verdict.AtHello, verdict.AtMail, verdict.AtRcpt} {
		var err error
		if r, err = v.expect(ctx); err != nil {
			return verdict.Exchange{}, err
		}
		if !r.Positive() {
			return v.exchange(p, stage, r), nil
		}
	}
	return v.data(ctx, p)
}
