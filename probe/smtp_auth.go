package probe

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"postern/mail"
	"postern/verdict"
)

// authRandom logs in with a user and a password that nobody has.
func authRandom(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, "u"+strings.ToLower(rand.Text()[:10]), rand.Text())
}

// authEmpty logs in with nothing.
func authEmpty(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, "", "")
}

// authPostmaster tries the name as its own password, once.
func authPostmaster(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, "postmaster", "postmaster")
}

// login tries PLAIN (RFC 4616) or LOGIN, under TLS when there is any: the
// answer to a login in clear is a note of its own, not a relay.
func (v *Visit) login(ctx context.Context, user, password string) (verdict.Stage, mail.Reply, error) {
	if v.Session.TLS == "" && v.Offers("STARTTLS") && !v.Offers("AUTH") {
		if stage, r, err := v.encrypt(ctx, nil); err != nil || !r.IsZero() {
			return stage, r, err
		}
	}
	mechanisms := strings.Fields(strings.ToUpper(v.Session.Extensions["AUTH"]))
	for _, m := range mechanisms {
		switch m {
		case "PLAIN":
			plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
			r, err := v.commandRaw(ctx, "AUTH PLAIN "+plain+"\r\n")
			return verdict.AtMove, r, err
		case "LOGIN":
			return v.loginLogin(ctx, user, password)
		}
	}
	return "", mail.Reply{}, fmt.Errorf("%w: EHLO shows no AUTH that takes a password", errNotOffered)
}

func (v *Visit) loginLogin(ctx context.Context, user, password string) (verdict.Stage, mail.Reply, error) {
	r, err := v.commandRaw(ctx, "AUTH LOGIN\r\n")
	for _, answer := range []string{user, password} {
		if err != nil || r.Code != 334 {
			return verdict.AtMove, r, err
		}
		r, err = v.commandRaw(ctx, base64.StdEncoding.EncodeToString([]byte(answer))+"\r\n")
	}
	return verdict.AtMove, r, err
}
