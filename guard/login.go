package guard

import (
	"context"
	"time"

	"postern/mail"
)

// A loginSession is a session at a listener for those who log in.
type loginSession struct{ *session }

// Mechanisms offers what the client can use now: nothing without TLS.
func (v *loginSession) Mechanisms() []string {
	if v.server.Login == nil || v.peer.TLS == nil {
		return nil
	}
	return v.server.Login.Mechanisms(v.peer.TLS)
}

// Auth checks a login. A refusal comes late: guessing must be slow.
func (v *loginSession) Auth(ctx context.Context, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) (string, mail.Reply) {
	began := time.Now()
	client := LoginClient{Addr: v.addr, TLS: v.peer.TLS, Shared: v.server.Shared != nil && v.server.Shared(v.addr)}
	said := initial
	result := v.server.Login.Login(ctx, client, mechanism, initial, func(text []byte) ([]byte, error) {
		answer, err := challenge(text)
		if said == nil {
			said = answer
		}
		return answer, err
	})
	if result.Reply.Code == 235 && result.Identity != "" {
		v.server.State.friends.met(v.addr, true, time.Now())
		v.note(Event{Kind: LoggedIn, Identity: result.Identity, Why: mechanism, Took: time.Since(began)})
		return result.Identity, result.Reply
	}
	r := result.Reply
	if !r.IsZero() {
		r = v.signed(r)
	}
	v.saw(Passwords, userSaid(mechanism, said)) // a trusted client has one password, if any
	v.note(Event{Kind: LoginFailed, Why: result.Why, Reply: r, Took: time.Since(began)})
	wait(ctx, result.Wait)
	return "", r
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
