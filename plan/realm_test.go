package plan

import (
	"testing"

	"postern/door"
)

func TestRealm(t *testing.T) {
	for _, c := range []struct {
		recipient string
		want      Realm
	}{
		{"{tu}@{td}", Foreign},
		{"{tu}@{td}.", Foreign},
		{`{tu}@\t{td}`, Foreign},
		{`{tu}@{td}\s`, Foreign},
		{"{tu}@{td}({dom})", Foreign},
		{"<{tu}@{td}>", Foreign},
		{"{tu}@{mxd}", Foreign},
		{"{tu}@{cip}", Foreign},
		{"@{dom},@{host}:{tu}@{td}", Foreign},
		{"@{rd}:{tu}@{td}", Foreign},
		{"{tu}@far.example", Foreign},
		{"{tu}%{td}@{rd}", Partner},
		{"{tu}%{td}@{dom}", Home},
		{"{tu}@{td}@{ip}", Home},
		{"{tu}@{td}.{dom}", Home},
		{"{tu}%{td}@localhost", Home},
		{"{tu}%{td}", Home},
		{"{td}!{tu}", Home},
		{`"{tu}@{td}"`, Home},
		{`"{tu}@{td}> ORCPT=rfc822;x"@{dom}`, Home},
		{`{tu}\@{td}@{dom}`, Home},
		{`{tu}@{td}\0@{dom}`, Home},
		{"{tu}@{td},postmaster@{dom}", Home},
		{"{tu}@{td}@", Home},
		{"{tu}@{td}(@{dom}", Home},
		{"{local}", Home},
	} {
		f, err := parseForm([]string{"x", "smtp", "full", "{x}", c.recipient, "-", "quoting", "test"})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Realm(); got != c.want {
			t.Errorf("%s: %s, want %s", c.recipient, got, c.want)
		}
	}
}

// Every name that a recipient can end in has a realm.
func TestEveryFormHasARealm(t *testing.T) {
	for _, f := range At(door.SMTP) {
		if r := f.Realm(); r != Home && r != Partner && r != Foreign {
			t.Errorf("%s: realm %q", f.ID, r)
		}
	}
}
