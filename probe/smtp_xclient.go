package probe

import (
	"context"
	"fmt"

	"postern/mail"
	"postern/verdict"
)

// xclient claims to be the server's own host (Postfix XCLIENT_README): after a
// 220 the session starts again with the claimed address.
func xclient(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.claim(ctx, "XCLIENT", "NAME=localhost ADDR=127.0.0.1")
}

// xclientLogin claims a login as well.
func xclientLogin(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.claim(ctx, "XCLIENT", "NAME=localhost ADDR=127.0.0.1 LOGIN=postmaster")
}

// xforward forges what the log says of the client; it should grant nothing.
func xforward(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.claim(ctx, "XFORWARD", "NAME=localhost ADDR=127.0.0.1")
}

func (v *Visit) claim(ctx context.Context, verb, attributes string) (verdict.Stage, mail.Reply, error) {
	if !v.Offers(verb) {
		return "", mail.Reply{}, fmt.Errorf("%w: EHLO does not show %s", errNotOffered, verb)
	}
	r, err := v.commandRaw(ctx, verb+" "+attributes+"\r\n")
	if err != nil || !r.Positive() {
		return verdict.AtMove, r, err
	}
	if r.Code == 220 { // the session starts again
		if err := v.hello(ctx, "EHLO", v.smtp.Helo); err != nil {
			return verdict.AtMove, mail.Reply{}, err
		}
	}
	return "", mail.Reply{}, nil
}
