package plan

import (
	"strings"
	"testing"

	"postern/mail"
)

// The list is short, each user stands once, and the issue of every server's
// own names is in it.
func TestLogins(t *testing.T) {
	list := Logins()
	if len(list) == 0 || len(list) > maxLogins {
		t.Errorf("%d logins", len(list))
	}
	facts := Facts{Host: must(t, mail.ParseDomain, "mx1.acme.example"), Domain: must(t, mail.ParseDomain, "acme.example")}
	var users []string
	for _, l := range list {
		filled, ok := l.For(facts)
		if !ok || strings.ContainsAny(filled.User+filled.Password, "{}") {
			t.Errorf("%s: %+v", l, filled)
		}
		users = append(users, filled.User)
	}
	for _, want := range []string{"test", "admin", "acme", "mx1"} {
		if !strings.Contains(" "+strings.Join(users, " ")+" ", " "+want+" ") {
			t.Errorf("%q is not among %q", want, users)
		}
	}
	if _, ok := (Credential{User: "{dom}", Password: "x"}).For(Facts{}); ok {
		t.Error("a server without a domain has a login by its name")
	}
}

func TestLoginNames(t *testing.T) {
	d := must(t, mail.ParseDomain, "acme.example")
	for _, c := range []struct {
		user   string
		domain mail.Domain
		want   string
	}{
		{"test", d, "test test@acme.example"},
		{"test", mail.Domain{}, "test"},
		{"anna@other.example", d, "anna@other.example anna"},
		{"", d, ""},
	} {
		if got := strings.Join(Credential{User: c.user}.Names(c.domain), " "); got != c.want {
			t.Errorf("%q at %s: %q, want %q", c.user, c.domain, got, c.want)
		}
	}
}

func TestReadLogins(t *testing.T) {
	list, err := ReadLogins(strings.NewReader("# mine\n\nanna:geheim:nis\nbert@acme.example:\n"))
	if err != nil || len(list) != 2 || list[0].Password != "geheim:nis" || list[1].User != "bert@acme.example" {
		t.Errorf("%+v, %v", list, err)
	}
	if text := list[0].String(); text != "anna" {
		t.Errorf("a login of one's own is shown as %q", text)
	}
	for _, c := range []struct{ text, want string }{
		{"", "no login in it"},
		{"anna:x\ngeheim", "line 2: a login is USER:PASSWORD"},
		{":geheim", "line 1: a login is USER:PASSWORD"},
		{"anna:" + strings.Repeat("geheim", 50), "line 1: a user and a password have at most 255"},
		{strings.Repeat("anna:geheim\n", 101), "more than 100"},
	} {
		_, err := ReadLogins(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%.20q: %v, want %q and no password", c.text, err, c.want)
		}
	}
}

func TestBadLogins(t *testing.T) {
	for _, c := range []struct{ table, want string }{
		{"test\ttest", "3 cells"},
		{"test\ttest\tx\ntest\t1\tx", "stands twice"},
	} {
		if _, err := parseLogins("l.tsv", c.table); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.table, err, c.want)
		}
	}
}
