package identity

import (
	"strings"
	"testing"
)

func TestParseIdentity(t *testing.T) {
	for _, c := range []struct {
		name, text  string
		user, token string
		ok          bool
	}{
		{"a user", "anna", "anna", "", true},
		{"in capitals", "ANNA", "anna", "", true},
		{"an address", "Anna@Example.org", "anna@example.org", "", true},
		{"a token", "anna/Printer", "anna", "printer", true},
		{"composed and decomposed are one", "Rene\u0301", "rené", "", true},
		{"compatibility forms are one", "ａｎｎａ", "anna", "", true},
		{"Greek", "ΣΟΦΙΑ", "σοφια", "", true},
		{"a soft hyphen is nothing", "an\u00adna", "anna", "", true},
		{"a space within", "anna b", "anna b", "", true},
		{"empty", "", "", "", false},
		{"an empty token", "anna/", "", "", false},
		{"an empty user", "/printer", "", "", false},
		{"two tokens", "anna/printer/x", "", "", false},
		{"directory search", "*)(uid=*", "", "", false},
		{"NUL", "anna\x00", "", "", false},
		{"line feed", "anna\n", "", "", false},
		{"escape", "anna\x1b[2J", "", "", false},
		{"right-to-left mark", "anna\u202e", "", "", false},
		{"quotes", `an"na`, "", "", false},
		{"angle brackets", "<anna>", "", "", false},
		{"space at the end", "anna ", "", "", false},
		{"no-break space at the start", "\u00a0anna", "", "", false},
		{"not UTF-8", "anna\xff", "", "", false},
		{"the longest", strings.Repeat("a", maxName), strings.Repeat("a", maxName), "", true},
		{"longer", strings.Repeat("a", maxName+1), "", "", false},
		{"longer when normalised", strings.Repeat("ﷺ", 20), "", "", false},
	} {
		user, token, err := parseIdentity(c.text)
		if user != c.user || token != c.token || (err == nil) != c.ok {
			t.Errorf("%s: %q is %q, %q, %v; want %q, %q", c.name, c.text, user, token, err, c.user, c.token)
		}
	}
}

// A name in its normal form stays as it is, and none holds what separates.
func FuzzIdentity(f *testing.F) {
	for _, s := range []string{"anna", "Anna/Printer", "ΣΟΦΙΑΣ", "İstanbul", "ǅ", "ﬁ", "*)(", "a\x00", "\u0345ａ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		user, token, err := parseIdentity(s)
		if err != nil {
			return
		}
		u, k, err := parseIdentity(join(user, token))
		if u != user || k != token || err != nil {
			t.Errorf("%q is %q, %q and then %q, %q, %v", s, user, token, u, k, err)
		}
		if strings.ContainsAny(user+token, reserved+"\x00\r\n") {
			t.Errorf("%q gave %q and %q", s, user, token)
		}
	})
}
