package probe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"postern/mail"
	"postern/smtp"
	"postern/verdict"
)

// Play runs forms that need no session of their own, one after the other, in
// this session. Where the server offers PIPELINING (RFC 2920) it first asks all of
// them in one go, MAIL, RCPT and RSET, and then plays those whose recipient was
// accepted to the end of a message. It returns one exchange for each play
// that was decided; when the session ends early the list is short, and the
// error says why. The play behind the last exchange is then the one that the
// server would not answer.
func (v *Visit) Play(ctx context.Context, plays []Play) ([]verdict.Exchange, error) {
	if !v.pipelines() || slices.ContainsFunc(plays, func(p Play) bool { return p.Form.Move.Name != "" }) {
		return v.PlayInStep(ctx, plays)
	}
	asked, err := v.ask(ctx, plays)
	if err != nil {
		return decided(asked, plays), err
	}
	for i := range asked {
		if asked[i].Outcome != verdict.Passed || plays[i].Held != "" {
			continue
		}
		if asked[i], err = v.transact(ctx, plays[i]); err != nil {
			return asked[:i], err // those behind were asked, not played: they come again
		}
	}
	return asked, nil
}

// decided returns the exchanges before the first whose recipient was accepted
// and whose message is still to be sent.
func decided(asked []verdict.Exchange, plays []Play) []verdict.Exchange {
	for i, x := range asked {
		if x.Outcome == verdict.Passed && plays[i].Held == "" {
			return asked[:i]
		}
	}
	return asked
}

// PlayInStep is Play with one command at a time.
func (v *Visit) PlayInStep(ctx context.Context, plays []Play) ([]verdict.Exchange, error) {
	var done []verdict.Exchange
	for _, p := range plays {
		x, err := v.playHere(ctx, p)
		if err != nil {
			return done, err
		}
		done = append(done, x)
	}
	return done, nil
}

// ask sends MAIL, RCPT, RSET for every play at once: no message, so that the
// best that an exchange can be is Passed.
func (v *Visit) ask(ctx context.Context, plays []Play) ([]verdict.Exchange, error) {
	v.stage = verdict.AtRcpt
	var b strings.Builder
	for _, p := range plays {
		b.WriteString(v.mailLine(p) + v.rcptLine(p) + "RSET\r\n")
	}
	if err := v.raw.Write(ctx, []byte(b.String())); err != nil {
		return nil, err
	}
	var done []verdict.Exchange
	for _, p := range plays {
		from, to, reset, err := v.three(ctx)
		if to.IsZero() || err != nil && !ended(err) || err == nil && !reset.Positive() {
			return done, v.outOfStep(err)
		}
		stage, r := verdict.AtRcpt, to
		if !from.Positive() {
			stage, r = verdict.AtMail, from
		}
		done = append(done, v.exchange(p, stage, r)) // answered, also when the server ends the session now
		if err != nil {
			return done, err
		}
	}
	if v.raw.Buffered() > 0 {
		return nil, v.outOfStep(nil) // more answers than commands: whose they are nobody knows
	}
	return done, nil
}

// three reads the answers to MAIL, RCPT and RSET that were sent at once.
func (v *Visit) three(ctx context.Context) (from, to, reset mail.Reply, err error) {
	for _, r := range []*mail.Reply{&from, &to, &reset} {
		if *r, err = v.next(ctx); err != nil {
			*r = mail.Reply{}
			return from, to, reset, err
		}
	}
	return from, to, reset, nil
}

// transact plays one form in lockstep, to the end of the message when the
// server lets it. The error is that of the connection; a refusal is none.
func (v *Visit) transact(ctx context.Context, p Play) (verdict.Exchange, error) {
	if x, done, err := v.envelope(ctx, p); done || err != nil {
		return x, err
	}
	return v.data(ctx, p)
}

// refused ends a transaction that the server refused.
func (v *Visit) refused(ctx context.Context, p Play, stage verdict.Stage, r mail.Reply) (verdict.Exchange, error) {
	x := v.exchange(p, stage, r)
	if _, err := v.commandRaw(ctx, "RSET\r\n"); err != nil && !ended(err) {
		return verdict.Exchange{}, err
	}
	return x, nil
}

// data sends DATA and the message of the play.
func (v *Visit) data(ctx context.Context, p Play) (verdict.Exchange, error) {
	if p.Held != "" {
		return v.refused(ctx, p, verdict.AtRcpt, mail.NewReply(250, "", "recipient accepted; nothing was sent"))
	}
	v.stage = verdict.AtData
	r, err := v.commandRaw(ctx, "DATA\r\n")
	if err != nil {
		return verdict.Exchange{}, err
	}
	if r.Code != 354 {
		return v.refused(ctx, p, verdict.AtData, r)
	}
	v.stage = verdict.AtMessage
	if r, err = v.commandRaw(ctx, p.Message.String()+".\r\n"); err != nil {
		return verdict.Exchange{}, err
	}
	return v.exchange(p, verdict.AtMessage, r), nil
}

// Ask asks with RCPT for recipients that never get a message: the controls.
func (v *Visit) Ask(ctx context.Context, sender string, controls []verdict.Asked) ([]verdict.Asked, error) {
	ask := v.askStepwise
	if v.pipelines() {
		ask = v.askAtOnce
	}
	if v.step == lost || v.silent {
		return nil, ErrOutOfStep
	}
	var done []verdict.Asked
	for _, a := range controls {
		from, to, err := ask(ctx, sender, a.Recipient)
		a.Reply = to
		if a.AtMail = !from.IsZero() && !from.Positive(); a.AtMail {
			a.Reply = from
		}
		if !a.Reply.IsZero() {
			done = append(done, a)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// askAtOnce sends a transaction in one go (RFC 2920), which costs one round
// trip instead of three. It returns what was answered to MAIL and to RCPT.
func (v *Visit) askAtOnce(ctx context.Context, sender, recipient string) (from, to mail.Reply, err error) {
	group, proving := "MAIL FROM:<"+sender+">\r\nRCPT TO:<"+recipient+">\r\nRSET\r\n", v.step == unproved
	if proving {
		group += "EHLO " + v.smtp.Helo + "\r\n"
	}
	if err = v.raw.Write(ctx, []byte(group)); err != nil {
		return from, to, err
	}
	from, to, reset, err := v.three(ctx)
	switch {
	case ended(err):
		return from, to, err
	case err != nil, !reset.Positive():
		return mail.Reply{}, mail.Reply{}, v.outOfStep(err)
	case !proving:
		return from, to, nil
	}
	hello, err := v.next(ctx)
	switch {
	case ended(err):
		return from, to, err
	case err != nil, !v.isHello(hello), v.raw.Buffered() > 0:
		return mail.Reply{}, mail.Reply{}, v.outOfStep(err)
	}
	v.step = inStep
	return from, to, nil
}

// askStepwise sends a transaction command by command.
func (v *Visit) askStepwise(ctx context.Context, sender, recipient string) (from, to mail.Reply, err error) {
	if from, err = v.commandRaw(ctx, "MAIL FROM:<"+sender+">\r\n"); err != nil {
		return mail.Reply{}, to, err
	}
	if from.Positive() {
		if to, err = v.commandRaw(ctx, "RCPT TO:<"+recipient+">\r\n"); err != nil {
			return from, mail.Reply{}, err
		}
	}
	_, err = v.commandRaw(ctx, "RSET\r\n")
	return from, to, err
}

func (v *Visit) exchange(p Play, stage verdict.Stage, r mail.Reply) verdict.Exchange {
	x := verdict.Exchange{Form: p.Form, Envelope: p.Envelope, Token: p.Token, Stage: stage, Reply: r, At: time.Now(), Tries: 1, Transcript: v.record}
	switch {
	case r.Positive() && stage == verdict.AtMessage:
		x.Outcome = verdict.Taken
	case r.Positive():
		x.Outcome, x.Why = verdict.Passed, p.Held
	case r.Transient():
		x.Outcome = verdict.Deferred
	default:
		x.Outcome = verdict.Denied
	}
	return x
}

func (v *Visit) mailLine(p Play) string {
	params := p.Envelope.SenderParams
	if params == "SMTPUTF8" && !v.Offers("SMTPUTF8") {
		params = "" // sent all the same: a server that does not know the extension may still decode
	}
	return "MAIL FROM:<" + p.Envelope.Sender + ">" + prefixed(params) + "\r\n"
}

func (v *Visit) rcptLine(p Play) string {
	params := p.Envelope.RecipientParams
	if params == noNotice && !v.Offers("DSN") {
		params = ""
	}
	return "RCPT TO:<" + p.Envelope.Recipient + ">" + prefixed(params) + "\r\n"
}

// noNotice asks for silence about what is not delivered (RFC 3461 section
// 4.1), in forms whose sender is an address of somebody else.
const noNotice = "NOTIFY=NEVER"

func prefixed(params string) string {
	if params == "" {
		return ""
	}
	return " " + params
}

func (v *Visit) commandRaw(ctx context.Context, text string) (mail.Reply, error) {
	if err := v.raw.Write(ctx, []byte(text)); err != nil {
		return mail.Reply{}, err
	}
	return v.expect(ctx)
}

// A ClosingError is a 421: the server ends the session, and what it answered
// is no answer to the command (RFC 5321 section 3.8).
type ClosingError struct{ Reply mail.Reply }

func (e *ClosingError) Error() string { return "the server ended the session: " + e.Reply.String() }

func (v *Visit) expect(ctx context.Context) (mail.Reply, error) {
	r, err := v.reply(ctx)
	v.waited(err)
	if err == nil && r.Code == 421 {
		return r, &ClosingError{Reply: r}
	}
	return r, err
}

// ended reports whether the server ended the session, with or without a word.
func ended(err error) bool {
	var closing *ClosingError
	return errors.As(err, &closing) || errors.Is(err, smtp.ErrClosed)
}
