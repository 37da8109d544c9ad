package probe

import (
	"context"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // it is what CRAM-MD5 is made of
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"postern/mail"
	"postern/plan"
	"postern/transcript"
	"postern/verdict"
)

// authRandom logs in with a user and a password that nobody has.
func authRandom(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, plan.Credential{User: "u" + strings.ToLower(rand.Text()[:10]), Password: rand.Text()})
}

// authEmpty logs in with nothing.
func authEmpty(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, plan.Credential{})
}

// authPostmaster tries the name as its own password, once.
func authPostmaster(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, plan.Credential{User: "postmaster", Password: "postmaster"})
}

// authGuess tries the login of the play in the first way there is.
func authGuess(ctx context.Context, v *Visit, p Play) (verdict.Stage, mail.Reply, error) {
	return v.login(ctx, p.Login)
}

// login tries the first mechanism that takes a password, under TLS where AUTH
// is offered there alone: the answer to a login in clear is a note of its own,
// not a relay.
func (v *Visit) login(ctx context.Context, l plan.Credential) (verdict.Stage, mail.Reply, error) {
	if v.Session.TLS == "" && v.Offers("STARTTLS") && !v.Offers("AUTH") {
		if stage, r, err := v.encrypt(ctx, nil); err != nil || !r.IsZero() {
			return stage, r, err
		}
	}
	for _, m := range v.mechanisms() {
		r, err := v.authenticate(ctx, m, l)
		return verdict.AtMove, r, err
	}
	return "", mail.Reply{}, fmt.Errorf("%w: EHLO shows no AUTH that takes a password", errNotOffered)
}

// mechanisms returns those that the server offers and we know, in the order in
// which they are preferred.
func (v *Visit) mechanisms() []string {
	offered := strings.Fields(strings.ToUpper(v.Session.Extensions["AUTH"]))
	return slices.DeleteFunc([]string{"PLAIN", "LOGIN", "CRAM-MD5"}, func(m string) bool { return !slices.Contains(offered, m) })
}

func (v *Visit) authenticate(ctx context.Context, mechanism string, l plan.Credential) (mail.Reply, error) {
	switch mechanism {
	case "LOGIN":
		return v.respond(ctx, mechanism, func([]byte) string { return l.User }, func([]byte) string { return l.Password })
	case "CRAM-MD5": // RFC 2195
		return v.respond(ctx, mechanism, func(challenge []byte) string {
			sum := hmac.New(md5.New, []byte(l.Password))
			_, _ = sum.Write(challenge) // never fails
			return l.User + " " + hex.EncodeToString(sum.Sum(nil))
		})
	}
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + l.User + "\x00" + l.Password)) // RFC 4616
	return v.commandRaw(ctx, "AUTH PLAIN "+plain+"\r\n")
}

// respond begins a mechanism and answers its challenges, one after the other.
func (v *Visit) respond(ctx context.Context, mechanism string, answers ...func(challenge []byte) string) (mail.Reply, error) {
	r, err := v.commandRaw(ctx, "AUTH "+mechanism+"\r\n")
	for _, answer := range answers {
		if err != nil || r.Code != 334 {
			return r, err
		}
		challenge, bad := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Text()))
		if bad != nil {
			challenge = nil // LOGIN's are words for people, and some send them as they are
		}
		r, err = v.commandRaw(ctx, base64.StdEncoding.EncodeToString([]byte(answer(challenge)))+"\r\n")
	}
	return r, err
}

// A Way is how a login can be tried at a server.
type Way struct {
	TLS       bool // after STARTTLS
	Mechanism string
}

// String names the way.
func (w Way) String() string {
	if w.TLS {
		return w.Mechanism + " after STARTTLS"
	}
	return w.Mechanism
}

// LoginWays asks the server in which ways it takes a login: before STARTTLS and
// after it, where it is offered. The likeliest come first: a mechanism that
// takes the password itself, after STARTTLS where that is offered, then
// CRAM-MD5, whose passwords may be kept elsewhere, then the rest.
func (p SMTP) LoginWays(ctx context.Context) ([]Way, error) {
	v, err := p.Open(ctx, &transcript.Transcript{})
	if err == nil {
		err = v.TurnedAway()
	}
	if err != nil {
		return nil, err
	}
	defer v.Close()
	before := v.mechanisms()
	var after []string
	if v.Session.TLS == "" && v.Offers("STARTTLS") {
		if _, r, err := v.encrypt(ctx, nil); err == nil && r.IsZero() {
			after = v.mechanisms()
		}
	}
	var ways, rest []Way
	for _, tls := range []bool{true, false} {
		list := before
		if tls {
			list = after
		}
		for i, m := range list {
			if w := (Way{tls, m}); i == 0 {
				ways = append(ways, w)
			} else {
				rest = append(rest, w)
			}
		}
	}
	slices.SortStableFunc(rest, func(a, b Way) int { return strings.Compare(a.Mechanism, b.Mechanism) }) // CRAM-MD5, LOGIN
	if len(ways) > 1 {                                                                                   // before STARTTLS comes after CRAM-MD5
		return append(append(ways[:1:1], rest...), ways[1:]...), nil
	}
	return append(ways, rest...), nil
}

// PlayLogin plays a form after its login, in a session of its own. The error is
// that of a session which never came to the login.
func (p SMTP) PlayLogin(ctx context.Context, play Play, w Way) (verdict.Exchange, error) {
	return p.playAlone(ctx, play, move{prepare: func(ctx context.Context, v *Visit, play Play) (verdict.Stage, mail.Reply, error) {
		if w.TLS {
			if stage, r, err := v.encrypt(ctx, nil); err != nil || !r.IsZero() {
				return stage, r, err
			}
		}
		if !slices.Contains(v.mechanisms(), w.Mechanism) {
			return "", mail.Reply{}, fmt.Errorf("%w: EHLO does not show AUTH %s", errNotOffered, w.Mechanism)
		}
		r, err := v.authenticate(ctx, w.Mechanism, play.Login)
		return verdict.AtMove, r, err
	}})
}
