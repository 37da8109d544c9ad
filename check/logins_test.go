package check_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/smtp"
	"postern/verdict"
)

func loggedIn(ctx context.Context, a open.Asked) open.Answer {
	if a.Client.Identity != "" {
		return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: a.To.Address()}
	}
	return postmasterOnly(ctx, a)
}

// A row for each place at which a login that anybody could guess may be taken:
// found, and named in the report, whichever mechanism and state of TLS it is.
func TestGuessableLogins(t *testing.T) {
	users := func(user, password string) map[string]string { return map[string]string{user: password} }
	for _, c := range []struct {
		name    string
		users   map[string]string
		methods []string
		tls     bool
		own     []plan.Credential
		says    string
	}{
		{"test/test by PLAIN", users("test", "test"), []string{"PLAIN"}, false, nil, "test with the password test, by PLAIN"},
		{"admin/admin by LOGIN", users("admin", "admin"), []string{"LOGIN"}, false, nil, "admin with the password admin, by LOGIN"},
		{"test/test by CRAM-MD5", users("test", "test"), []string{"CRAM-MD5"}, false, nil, "test with the password test, by CRAM-MD5"},
		{"with the domain", users("info@ours.example", "info"), []string{"PLAIN", "LOGIN"}, false, nil, "info@ours.example with the password info, by PLAIN"},
		{"the domain's own name", users("ours", "ours"), []string{"PLAIN"}, false, nil, "ours with the password ours"},
		{"the host's own name", users("mx7", "mx7"), []string{"PLAIN"}, false, nil, "mx7 with the password mx7"},
		{"where STARTTLS is offered", users("test", "test"), []string{"PLAIN"}, true, nil, "test with the password test, by PLAIN after STARTTLS"},
		{"one of our own", users("anna", "geheimnis"), []string{"PLAIN"}, false, []plan.Credential{{User: "bert", Password: "x", Own: true}, {User: "anna@ours.example", Password: "geheimnis", Own: true}}, "anna, by PLAIN"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{}
			s := open.SMTP{Name: "mx7.ours.example", Sink: w, Rule: loggedIn, Users: c.users, Methods: c.methods, Limits: limits()}
			if c.tls {
				s.TLS = certificate(t, "mx7.ours.example")
			}
			w.server = s
			j, _ := w.audit(t, check.Options{Wait: 20 * time.Second, TryLogins: true, Logins: c.own})
			if j.Verdict != verdict.Open || j.Proof.Form.ID != "auth-guess" {
				t.Fatalf("%s: %s (%s)", c.name, j.Verdict, j.Why)
			}
			if notes := strings.Join(j.Proof.Notes, "; "); !strings.Contains(notes, "the login that was taken: "+c.says) || strings.Contains(notes, "geheimnis") {
				t.Errorf("%s: %q, want %q in it", c.name, notes, c.says)
			}
		})
	}
}

// A locker counts the failures of each account.
type locker struct {
	open.SMTP
	mu    sync.Mutex
	tries map[string][]time.Time
}

func (l *locker) Connect(ctx context.Context, p *smtp.Peer) (smtp.Session, mail.Reply) {
	v, r := l.SMTP.Connect(ctx, p)
	return struct {
		smtp.Session
		lockerSession
	}{v, lockerSession{l}}, r
}

type lockerSession struct{ l *locker }

func (s lockerSession) Mechanisms() []string { return []string{"PLAIN", "LOGIN", "CRAM-MD5"} }

func (s lockerSession) Auth(_ context.Context, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) (string, mail.Reply) {
	said, user := initial, ""
	for i := range map[string]int{"PLAIN": 1, "LOGIN": 2, "CRAM-MD5": 1}[mechanism] {
		if i > 0 || said == nil {
			said, _ = challenge([]byte("x"))
		}
		if i == 0 {
			user = strings.Trim(string(said), "\x00")
		}
	}
	user, _, _ = strings.Cut(user, "\x00")
	user, _, _ = strings.Cut(user, " ")
	user, _, _ = strings.Cut(user, "@")
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.tries[user] = append(s.l.tries[user], time.Now())
	return "", mail.NewReply(535, "5.7.8", "wrong user or password")
}

// No account sees so many wrong passwords, or so fast, that it would be locked;
// and the report says what was tried.
func TestGuessingLocksNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := &locker{SMTP: open.SMTP{Rule: loggedIn, Sink: w}, tries: map[string][]time.Time{}}
		w.server = &smtp.Server{Name: "mx.ours.example", Handler: l, Limits: limits(), PlainAuth: true}
		j, _ := w.audit(t, check.Options{Wait: 20 * time.Second, TryLogins: true})
		if j.Verdict != verdict.Closed {
			t.Errorf("%s (%s)", j.Verdict, j.Why)
		}
		i := slices.IndexFunc(j.Forms, func(f verdict.FormResult) bool { return f.Form.ID == "auth-guess" })
		if said := j.Forms[i].Tried; !strings.Contains(said, "by PLAIN, CRAM-MD5") || !strings.Contains(said, "test@ours.example") {
			t.Errorf("tried: %q", said)
		}
		for _, want := range []string{"test", "admin", "ours", "mx"} {
			if len(l.tries[want]) == 0 {
				t.Errorf("%q was not tried", want)
			}
		}
		for user, at := range l.tries {
			if len(at) > 4 {
				t.Errorf("%q: %d wrong passwords", user, len(at))
			}
			for i := range at[1:] {
				if d := at[i+1].Sub(at[i]); d < 20*time.Second && len(at) > 1 {
					t.Errorf("%q: tried again after %s", user, d)
				}
			}
		}
	})
}

// A server that bans clients who guess is not asked on, and nothing is said of
// the logins that were not tried.
func TestGuessingEndsWhenBanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := &locker{SMTP: open.SMTP{Rule: loggedIn, Sink: w}, tries: map[string][]time.Time{}}
		banned := func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			n := 0
			for _, at := range l.tries {
				n += len(at)
			}
			return n >= 6
		}
		w.server = &smtp.Server{Name: "mx.ours.example", Handler: l, Limits: limits(), PlainAuth: true}
		w.limit = func(int) bool { return banned() }
		j, _ := w.audit(t, check.Options{Wait: 20 * time.Second, TryLogins: true})
		for _, f := range j.Forms {
			if f.Form.ID == "auth-guess" && (f.State != verdict.Untested || !strings.Contains(f.Tried, "then it turned us away")) {
				t.Errorf("%s: %q, %q", f.State, f.Reason, f.Tried)
			}
		}
		if j.Verdict != verdict.Closed || w.dials > 100 {
			t.Errorf("%s (%s) after %d sessions", j.Verdict, j.Why, w.dials)
		}
	})
}
