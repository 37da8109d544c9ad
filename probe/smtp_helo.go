package probe

import (
	"context"

	"postern/mail"
	"postern/verdict"
)

// heloAs gives another name in EHLO than ours. EHLO may come again at any time
// and then starts the session anew (RFC 5321 section 4.1.4).
func heloAs(ctx context.Context, v *Visit, p Play) (verdict.Stage, mail.Reply, error) {
	return v.rename(ctx, "EHLO "+p.Envelope.MoveArg)
}

// heloOnly says HELO, which some servers send through other rules.
func heloOnly(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.rename(ctx, "HELO "+v.smtp.Helo)
}

// rename returns the reply only when it is a refusal.
func (v *Visit) rename(ctx context.Context, line string) (verdict.Stage, mail.Reply, error) {
	r, err := v.commandRaw(ctx, line+"\r\n")
	if err != nil || !r.Positive() {
		return verdict.AtHello, r, err
	}
	return "", mail.Reply{}, nil
}

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
