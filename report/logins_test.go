package report

import (
	"net/netip"
	"strings"
	"testing"

	"postern/door"
	"postern/plan"
	"postern/verdict"
)

// What became of guessable logins, as a report says it.
func TestLogins(t *testing.T) {
	guess := func(state verdict.State, x verdict.Exchange) verdict.FormResult {
		f, ok := plan.Find("auth-guess")
		if !ok {
			t.Fatal("no form auth-guess")
		}
		x.Form = f
		return verdict.FormResult{Exchange: x, State: state}
	}
	offers := verdict.Session{Extensions: map[string]string{"AUTH": "PLAIN"}}
	for _, c := range []struct {
		name    string
		session verdict.Session
		forms   []verdict.FormResult
		json    string
		text    string
	}{
		{"no login", verdict.Session{}, nil, "", ""},
		{"not tried", offers, nil, "untried", "587: lets strangers try to log in; whether a login that anybody could guess gets in was not tried (--try-logins)"},
		{
			"all refused", offers,
			[]verdict.FormResult{guess(verdict.Refused, verdict.Exchange{Outcome: verdict.Denied, Tried: "24 tries by PLAIN as test, admin"})},
			"refused", "port 587: refused; 24 tries by PLAIN as test, admin",
		},
		{
			"one taken", offers,
			[]verdict.FormResult{guess(verdict.Arrived, verdict.Exchange{Outcome: verdict.Taken, Login: "test with the password test, by PLAIN", Tried: "1 try by PLAIN as test"})},
			"taken", "port 587: taken: test with the password test, by PLAIN; 1 try by PLAIN as test",
		},
		{
			"given up", offers,
			[]verdict.FormResult{guess(verdict.Untested, verdict.Exchange{Outcome: verdict.NotRun, Tried: "3 tries by PLAIN as test; then it turned us away"})},
			"refused", "port 587: undecided; 3 tries by PLAIN as test; then it turned us away",
		},
	} {
		d := Door{Door: door.SMTP, Judgement: verdict.Judgement{Verdict: verdict.Closed, Forms: c.forms}}
		d.Addr, d.Session = netip.MustParseAddrPort("203.0.113.10:587"), c.session
		d.Session.TLS = "TLS 1.3"
		if got := logins(&d); got != c.json {
			t.Errorf("%s: %q, want %q", c.name, got, c.json)
		}
		text := strings.Join(strings.Fields(written(t, Report{Given: "x", Addresses: []Address{{Doors: []Door{d}}}}, TextOptions{})), " ")
		if !strings.Contains(text, c.text) || c.text == "" && strings.Contains(text, "log in") {
			t.Errorf("%s: %q is missing in %q", c.name, c.text, text)
		}
	}
}
