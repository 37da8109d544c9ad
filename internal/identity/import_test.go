package identity

import (
	"fmt"
	"strings"
	"testing"
)

func TestImport(t *testing.T) {
	sha, argon := sha512Vectors[0].hash, newArgon2id("x").String()
	for _, c := range []struct{ name, lines, want, wrong string }{
		{"our own form", "bert:{BLF-CRYPT}" + bcryptVector + ":bert@example.org,*@example.net", "bert blf-crypt [bert@example.org *@example.net]", ""},
		{"nothing but a verifier", "bert:" + sha, "bert sha512-crypt []", ""},
		{"a passwd file", "bert:{SHA512-CRYPT}" + sha + ":1000:1000:Bert:/home/bert:/bin/sh:userdb_mail=maildir:~/Mail", "bert sha512-crypt []", ""},
		{"a passwd file that is empty behind", "Bert@Example.org:{ARGON2ID}" + argon + "::::::", "bert@example.org argon2id []", ""},
		{"a user id alone", "bert:" + argon + ":1000", "bert argon2id []", ""},
		{"comments, empty lines, CRLF", "# users\r\n\r\nbert:" + sha + "\r\n", "bert sha512-crypt []", ""},
		{"a byte order mark", "\xef\xbb\xbfbert:" + sha, "bert sha512-crypt []", ""},
		{"UTF-16", "\xff\xfeb\x00", "", "u: its text is UTF-16; save it as UTF-8"},
		{"no colon", "bert", "", "u:1: a line is name:{SCHEME}verifier"},
		{"no name", ":" + sha, "", "u:1: \"\": a name is not empty"},
		{"directory search", "*)(x:" + sha, "", "a name has none of the characters"},
		{"in clear", "\nbert:{PLAIN}swordfish", "", `u:2: user "bert": only ARGON2ID`},
		{"not an address", "bert:" + sha + ":bert", "", `u:1: user "bert": "bert" is neither`},
		{"a user that exists", "anna:" + sha, "", `user exists: "anna"`},
		{"a user twice", "bert:" + sha + "\nBERT:" + sha, "", `user exists: "bert"`},
		{"one line of two is bad", "bert:" + sha + "\ncarla:{MD5}x", "", "u:2: "},
		{"a line without an end", "bert:" + strings.Repeat("x", 1<<17), "", "u: "},
	} {
		s := openStore(t, t.TempDir())
		if err := s.Add(NewUser{Name: "anna", Certificate: true}); err != nil {
			t.Fatal(err)
		}
		n, err := s.Import("u", strings.NewReader(c.lines))
		var got []string
		for _, u := range s.List() {
			if u.Name != "anna" {
				got = append(got, fmt.Sprintf("%s %s %v", u.Name, u.Password, u.MaySendAs))
			}
		}
		switch {
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || n != 0 || got != nil):
			t.Errorf("%s: %d users, %v, %v; want %q and none", c.name, n, got, err, c.wrong)
		case c.wrong == "" && (err != nil || n != 1 || strings.Join(got, "; ") != c.want):
			t.Errorf("%s: %d users, %v, %v; want %q", c.name, n, got, err, c.want)
		case err != nil && (strings.Contains(err.Error(), "swordfish") || strings.Contains(err.Error(), "$6$salt")):
			t.Errorf("%s: the error shows a verifier: %v", c.name, err)
		}
	}
}

// A line that is taken is taken by the reader of users.json too.
func FuzzPasswd(f *testing.F) {
	for _, s := range []string{
		"bert:{BLF-CRYPT}" + bcryptVector + ":bert@example.org,*@example.net", "bert:" + sha512Vectors[0].hash,
		"bert:{SHA512-CRYPT}" + sha512Vectors[1].hash + ":1000:1000::/home/bert::", ":", "bert:{", "bert:$2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parsePasswd(line)
		if err != nil {
			return
		}
		data, err := writeBook([]record{r})
		if err != nil {
			t.Fatal(err)
		}
		b, err := readBook("users.json", data)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if b.users[0].Name != r.Name || b.users[0].Password != r.Password || b.accounts[r.Name] == nil {
			t.Errorf("%q became %+v", line, b.users[0])
		}
	})
}
