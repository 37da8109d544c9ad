package identity

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// sampleBook is a users.json as it is written.
func sampleBook(tb testing.TB) string {
	tb.Helper()
	c, err := newCredential("a-long-and-rare-one", fewRounds)
	if err != nil {
		tb.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	data, err := writeBook([]record{
		{
			Name: "anna", Password: c.password.String(), SCRAM: c.keys.String(), MaySendAs: []string{"anna@example.org", "*@example.com", "<>"}, Created: at, Changed: at,
			Tokens: []tokenRecord{{Name: "printer", Password: c.password.String(), SCRAM: c.keys.String(), MaySendAs: []string{"scan@example.com"}, Rate: "100/h", Created: at, Expires: at.AddDate(1, 0, 0)}},
		},
		{Name: "bert", Password: bcryptVector, Disabled: true, Created: at, Changed: at},
		{Name: "carla@example.org", Certificate: true, Created: at, Changed: at},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

func TestReadBook(t *testing.T) {
	text := sampleBook(t)
	for _, c := range []struct{ name, old, instead, wrong string }{
		{"as it is written", "", "", ""},
		{"no users", text, `{"postern_users":1,"users":[]}`, ""},
		{"empty file", text, "", "users.json:1: not a list of users"},
		{"another file", text, `{"name":"x"}`, "users.json:1: not a list of users"},
		{"a later version", `"postern_users": 1`, `"postern_users": 2`, "users.json:1: version 2"},
		{"an unknown word", `"disabled":true`, `"switched_off":true`, `users.json:3: not a user: unknown field "switched_off"`},
		{"a wrong type", `"disabled":true`, `"disabled":"yes"`, "users.json:3: not a user: the field disabled has the wrong type"},
		{"a brace too few", `"certificate":true,`, `"certificate":true`, "users.json:4: not a user"},
		{"a damaged verifier", "$2y$05$", "$2y$05", `users.json:3: user "bert": password`},
		{"a scheme in braces", "$2y$05$", "{CRYPT}$2y$05$", `users.json:3: user "bert": password: the verifier stands without`},
		{"damaged keys", "SCRAM-SHA-256$4096:", "SCRAM-SHA-256$1:", `users.json:2: user "anna": not SCRAM keys`},
		{"a name in capitals", `"name":"bert"`, `"name":"Bert"`, `users.json:3: user "Bert": the name must be written "bert"`},
		{"a name with a slash", `"name":"bert"`, `"name":"anna/printer"`, "a name has none of the characters"},
		{"a user twice", `"name":"bert"`, `"name":"anna"`, `users.json:3: user "anna": stands there twice`},
		{"an address that is none", `"anna@example.org"`, `"anna@"`, `users.json:2: user "anna": "anna@" is neither`},
		{"a token's rate", "100/h", "100/y", `user "anna": token "printer": "100/y" is no rate`},
		{"half a file", text[300:], "", "users.json:"},
		{"something behind", "\n]}\n", "\n]}\n{}", "something follows"},
		{"another key behind", "\n]}\n", "\n],\"x\":1}\n", "does not end as it should"},
	} {
		data := strings.Replace(text, c.old, c.instead, 1)
		b, err := readBook("users.json", []byte(data))
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.wrong != "" && (err == nil || b != nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s:\n got %v\nwant %s", c.name, err, c.wrong)
		case err != nil && (strings.Contains(err.Error(), "argon2id$") || strings.Contains(err.Error(), "$05")):
			t.Errorf("%s: the error shows a verifier: %v", c.name, err)
		}
	}
}

func TestTokenHasNoMoreThanItsUser(t *testing.T) {
	for _, c := range []struct{ name, user, token, want string }{
		{"no list of its own", "anna@example.org *@example.com", "", "anna@example.org *@example.com"},
		{"no list, and the user has nothing", "", "", ""},
		{"below a domain", "*@example.com", "scan@example.com", "scan@example.com"},
		{"the domain was taken from the user", "*@example.net", "scan@example.com", ""},
		{"below everything", "*", "scan@example.com", "scan@example.com"},
		{"everything is more than a domain", "*@example.com", "*", ""},
		{"a domain is more than an address", "scan@example.com", "*@example.com", ""},
		{"the null sender is in no domain", "*", "<> scan@example.com", "scan@example.com"},
		{"the null sender is named", "<>", "<> scan@example.com", "<>"},
		{"a domain below a label", "*@example.com", "scan@sub.example.com", ""},
		{"in other letters", "Scan@Example.COM", "scan@example.com", "scan@example.com"},
		{"all that it names was taken", "anna@example.org", "scan@example.com ben@example.com", ""},
	} {
		if got := strings.Join(Held(strings.Fields(c.user), strings.Fields(c.token)), " "); got != c.want {
			t.Errorf("%s: the token may send as %q, want %q", c.name, got, c.want)
		}
	}
}

// What is read is written and read again as the same.
func FuzzReadBook(f *testing.F) {
	f.Add([]byte(sampleBook(f)))
	f.Add([]byte(`{"postern_users":1,"users":[{"name":"a","NAME":"b"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := readBook("users.json", data)
		if err != nil {
			return
		}
		once, err := writeBook(b.users)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readBook("users.json", once)
		if err != nil {
			t.Fatalf("%q, written from %q: %v", once, data, err)
		}
		if twice, err := writeBook(again.users); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q and then %q, %v", once, twice, err)
		}
		for identity, a := range again.accounts {
			if identity != a.Identity || b.accounts[identity] == nil {
				t.Errorf("%q is %q", identity, a.Identity)
			}
		}
	})
}
