package identity

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// The first three are of the specification of SHA-crypt, section "test
// vectors"; the others were made with crypt(3) of glibc.
var sha512Vectors = []struct{ name, password, hash string }{
	{"specification 1", "Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"},
	{"specification 2: rounds, the longest salt", "Hello world!", "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."},
	{"specification 4: longer than a digest", "a very much longer text to encrypt.  This one even stretches over morethan one line.", "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1"},
	{"an empty password", "", "$6$x$QSmr1Bx2g4O6BzKvdkgOcyU6H91X6I/XBv5pSalMhSPkwdH6Beo3F455xZJg0v//bxVK5F4OE5k1.0xuR26MK0"},
	{"not ASCII, the fewest rounds", "été pass", "$6$rounds=1000$abc$jTPTJXddM0O5hfhAiGdl4SqISxFWNbyAij8R6BBzMO1OTUWMdmul5r0fRBp.53.JvseTRphs1TUh3qtCUopiz/"},
	{"200 octets", strings.Repeat("p", 200), "$6$rounds=1234$qwertz$oEtpd1IpJe2e7YOZatQMovKfdWUWB3ZKlWVKPNk0tdkP1cgH3fWi9K3JcuyP7s37ib7kv8DXHny9jw4nQbbOh/"},
}

const bcryptVector = "$2y$05$abcdefghijklmnopqrstuuybsCztZfJOSZan2UlBYbagc6NblpkYe" // of "sesame-42-lane", made with crypt(3)

func TestVerifiersMatch(t *testing.T) {
	cases := append(sha512Vectors[:len(sha512Vectors):len(sha512Vectors)],
		struct{ name, password, hash string }{"bcrypt", "sesame-42-lane", bcryptVector},
		struct{ name, password, hash string }{"our own", "quiet-otter", newArgon2id("quiet-otter").String()})
	for _, c := range cases {
		v, err := parseVerifier(c.hash)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !v.matches(c.password) {
			t.Errorf("%s: %q does not match %s", c.name, c.password, c.hash)
		}
		if v.matches(c.password+"x") || v.matches("x"+c.password) {
			t.Errorf("%s: another password matches too", c.name)
		}
		if v.String() != c.hash {
			t.Errorf("%s: written as %s, read from %s", c.name, v, c.hash)
		}
	}
}

func TestParseVerifier(t *testing.T) {
	sha, argon := sha512Vectors[0].hash, newArgon2id("x").String()
	params := func(p string) string { return strings.Replace(argon, "m=19456,t=2,p=1", p, 1) }
	for _, c := range []struct {
		name, text string
		wrong      string // a part of the error; "" for none
	}{
		{"scheme in braces", "{SHA512-CRYPT}" + sha, ""},
		{"in small letters", "{blf-crypt}" + bcryptVector, ""},
		{"crypt(3)", "{CRYPT}" + sha, ""},
		{"the prefix alone", bcryptVector, ""},
		{"the most memory", params("m=262144,t=4,p=1"), ""},
		{"a scheme and another's hash", "{ARGON2ID}" + sha, "begins with $argon2id$"},
		{"in clear", "{PLAIN}hunter2hunter2", "new password"},
		{"MD5", "$1$salt$hash", "new password"},
		{"no brace", "{CRYPT" + sha, "not closed"},
		{"nothing", "", "new password"},
		{"the broken bcrypt", strings.Replace(bcryptVector, "$2y$", "$2x$", 1), "not a bcrypt"},
		{"bcrypt that takes an hour", strings.Replace(bcryptVector, "$05$", "$31$", 1), "04 to 14"},
		{"bcrypt cut short", bcryptVector[:59], "not a bcrypt"},
		{"bcrypt prefix alone", "$2", "not a bcrypt"},
		{"a thousand million rounds", "$6$rounds=999999999$salt$" + sha[14:], "1000 to 1000000"},
		{"too few rounds", "$6$rounds=999$salt$" + sha[14:], "1000 to 1000000"},
		{"rounds with a zero before", "$6$rounds=05000$salt$" + sha[14:], "not a SHA512"},
		{"no salt", "$6$$" + sha[14:], "not a SHA512"},
		{"a character too many", sha + "1", "not a SHA512"},
		{"unused bits", sha[:len(sha)-1] + "z", "not a SHA512"},
		{"argon2i", strings.Replace(argon, "argon2id", "argon2i", 1), "new password"},
		{"a terabyte", params("m=1073741824,t=1,p=1"), "at most m=262144"},
		{"days of passes", params("m=19456,t=4000000000,p=1"), "m times t"},
		{"no threads", params("m=19456,t=2,p=0"), "p of 1 to 16"},
		{"256 threads", params("m=19456,t=2,p=256"), "not an argon2id"},
		{"a sign", params("m=+19456,t=2,p=1"), "not an argon2id"},
		{"a space", params("m= 19456,t=2,p=1"), "not an argon2id"},
		{"padding", argon + "=", "not an argon2id"},
		{"a short hash", argon[:strings.LastIndex(argon, "$")+9], "hash of 16 to 64"},
	} {
		v, err := parseVerifier(c.text)
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: got %v and %v, want an error with %q", c.name, v, err, c.wrong)
		}
	}
}

func TestOldVerifiersAreNotCurrent(t *testing.T) {
	made, err := newCredential("a-long-and-rare-one", fewRounds)
	if err != nil {
		t.Fatal(err)
	}
	weak := newArgon2id("x")
	weak.time = 1
	old, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		c    credential
		want bool
	}{
		{"as it is made today", made, true},
		{"without keys", credential{made.password, nil}, false},
		{"cheaper", credential{weak, made.keys}, false},
		{"bcrypt", credential{bcryptHash(old), made.keys}, false},
	} {
		if got := c.c.current(fewRounds); got != c.want {
			t.Errorf("%s: current is %v, want %v", c.name, got, c.want)
		}
	}
}

// What is read is written as it was read, and never costs more than is let.
func FuzzVerifier(f *testing.F) {
	for _, v := range sha512Vectors {
		f.Add(v.hash)
	}
	f.Add(bcryptVector)
	f.Add(newArgon2id("x").String())
	f.Add("{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseVerifier(s)
		if err != nil {
			return
		}
		if text := v.String(); !strings.HasSuffix(s, text) {
			t.Errorf("%q is written as %q", s, text)
		}
		again, err := parseVerifier(v.String())
		if err != nil || again.String() != v.String() {
			t.Errorf("%q is read again as %v, %v", v, again, err)
		}
		if a, ok := v.(argon2id); ok && uint64(a.memory)*uint64(a.time) > maxArgonWork {
			t.Errorf("%q may cost too much", s)
		}
	})
}

func FuzzSHA512Crypt(f *testing.F) {
	for _, v := range sha512Vectors {
		f.Add(v.hash)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := parseSHA512Crypt(s); err == nil && v.String() != s {
			t.Errorf("%q is written as %q", s, v)
		}
	})
}

func FuzzScramKeys(f *testing.F) {
	k, err := newScramKeys("x", fewRounds)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.String())
	f.Add("SCRAM-SHA-256$4096:$:")
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := parseScramKeys(s); err == nil && k.String() != s {
			t.Errorf("%q is written as %q", s, k)
		}
	})
}
