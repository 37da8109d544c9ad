package probe

import (
	"context"
	"fmt"

	"postern/verdict"
)

// bdat sends the message as one chunk (RFC 3030), past rules that hang on DATA.
func bdat(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error) {
	if !v.Offers("CHUNKING") {
		return verdict.Exchange{}, fmt.Errorf("%w: EHLO does not show CHUNKING", errNotOffered)
	}
	if x, done, err := v.envelope(ctx, p); done || err != nil {
		return x, err
	}
	if p.Held != "" {
		return v.data(ctx, p) // which sends nothing
	}
	message := p.Message.String()
	v.stage = verdict.AtMessage
	r, err := v.commandRaw(ctx, fmt.Sprintf("BDAT %d LAST\r\n%s", len(message), message))
	if err != nil {
		return verdict.Exchange{}, err
	}
	return v.exchange(p, verdict.AtMessage, r), nil
}

// afterLocal names a recipient of the server's own before the foreign one.
// Only when both are taken is a message sent: a mailbox that the server serves
// gets nothing for being asked about.
func afterLocal(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error) {
	v.stage = verdict.AtMail
	r, err := v.commandRaw(ctx, v.mailLine(p))
	if err != nil {
		return verdict.Exchange{}, err
	}
	if !r.Positive() {
		return v.refused(ctx, p, verdict.AtMail, r)
	}
	if _, err := v.commandRaw(ctx, "RCPT TO:<"+p.Envelope.MoveArg+">\r\n"); err != nil {
		return verdict.Exchange{}, err
	}
	v.stage = verdict.AtRcpt
	if r, err = v.commandRaw(ctx, v.rcptLine(p)); err != nil {
		return verdict.Exchange{}, err
	}
	if !r.Positive() {
		return v.refused(ctx, p, verdict.AtRcpt, r)
	}
	return v.data(ctx, p)
}

// afterReset is granted a recipient, says RSET, and names the foreign one.
func afterReset(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error) {
	v.stage = verdict.AtMail
	own := p.Envelope.MoveArg
	for _, line := range []string{"MAIL FROM:<" + own + ">\r\n", "RCPT TO:<" + own + ">\r\n", "RSET\r\n"} {
		if _, err := v.commandRaw(ctx, line); err != nil {
			return verdict.Exchange{}, err
		}
	}
	return v.transact(ctx, p)
}

// dataAnyway goes on to DATA although the recipient was refused.
func dataAnyway(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error) {
	v.stage = verdict.AtMail
	r, err := v.commandRaw(ctx, v.mailLine(p))
	if err != nil {
		return verdict.Exchange{}, err
	}
	if !r.Positive() {
		return v.refused(ctx, p, verdict.AtMail, r)
	}
	v.stage = verdict.AtRcpt
	if r, err = v.commandRaw(ctx, v.rcptLine(p)); err != nil {
		return verdict.Exchange{}, err
	}
	if p.Held != "" {
		return v.refused(ctx, p, verdict.AtRcpt, r) // what comes after would be a message
	}
	return v.data(ctx, p)
}

// envelope sends MAIL and RCPT; done means that the server refused one.
func (v *Visit) envelope(ctx context.Context, p Play) (x verdict.Exchange, done bool, err error) {
	v.stage = verdict.AtMail
	r, err := v.commandRaw(ctx, v.mailLine(p))
	if err != nil {
		return x, false, err
	}
	if !r.Positive() {
		x, err = v.refused(ctx, p, verdict.AtMail, r)
		return x, true, err
	}
	v.stage = verdict.AtRcpt
	if r, err = v.commandRaw(ctx, v.rcptLine(p)); err != nil {
		return x, false, err
	}
	if !r.Positive() {
		x, err = v.refused(ctx, p, verdict.AtRcpt, r)
		return x, true, err
	}
	return x, false, nil
}
