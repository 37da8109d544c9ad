package identity

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// asked returns the salt and the rounds of a SCRAM challenge.
func asked(t *testing.T, l *Login, name string) (salt, rounds string) {
	t.Helper()
	l.Authenticate(t.Context(), overTLS, "SCRAM-SHA-256", []byte("n,,n="+name+",r=abc"), func(b []byte) ([]byte, error) {
		parts := strings.Split(string(b), ",")
		if len(parts) != 3 {
			t.Fatalf("%s: the server says %q", name, b)
		}
		salt, rounds = parts[1], parts[2]
		return nil, errScript
	})
	return salt, rounds
}

// What users.json holds beside the argon2id hash is as dear to guess from.
func TestScramKeysHaveManyRounds(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, _ := newLogin(Options{Store: s, Guesses: unlimited()})
	if _, rounds := asked(t, l, "nobody"); rounds != "i=600000" {
		t.Errorf("nobody: %s", rounds)
	}
	s.rounds = formerRounds
	if err := s.Add(NewUser{Name: "anna", Password: goodPassword}); err != nil {
		t.Fatal(err)
	}
	before, rounds := asked(t, l, "anna")
	if rounds != "i=10000" {
		t.Errorf("keys of before: %s", rounds)
	}
	if _, rounds := asked(t, l, "nobody"); rounds != "i=10000" {
		t.Errorf("nobody, beside keys of before: %s", rounds)
	}
	s.rounds = scramRounds
	for range 2 {
		if r := l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00anna\x00"+string(goodPassword)), says()); r.Identity != "anna" {
			t.Fatal(r.Reply)
		}
		after, rounds := asked(t, l, "anna")
		if rounds != "i=600000" || after == before || s.List()[0].SCRAM != scramRounds {
			t.Errorf("after a login that shows the password: %s, salt %s and then %s", rounds, before, after)
		}
	}
	sc := &scramClient{conv: newScramClient(t, "anna", string(goodPassword), "").NewConversation()}
	if r := l.Authenticate(t.Context(), overTLS, "SCRAM-SHA-256", nil, sc.answer); r.Identity != "anna" {
		t.Errorf("by the new keys: %v", r.Reply)
	}
}

// While some keys are of before, the rounds do not tell who exists; and who does
// not changes once, with the salt, as who does.
func TestRoundsTellNobody(t *testing.T) {
	s := openStore(t, t.TempDir())
	l, _ := newLogin(Options{Store: s, Guesses: unlimited()})
	const users, names = 8, 400
	was := map[string]string{}
	for made := range users + 1 {
		var book book
		for i := range users {
			book.rounds = append(book.rounds, map[bool]int{true: scramRounds, false: formerRounds}[i >= users-made])
		}
		s.mu.Lock()
		s.book, s.looked = &book, s.looked.Add(1<<40)
		s.mu.Unlock()
		anew := 0
		for i := range names {
			name := fmt.Sprint("nobody-", i)
			salt, rounds := asked(t, l, name)
			if rounds == "i=600000" {
				anew++
			}
			if now := salt + rounds; made > 0 && now != was[name] && (strings.HasSuffix(was[name], "i=600000") || strings.HasPrefix(was[name], salt)) {
				t.Errorf("%s has %s and then %s", name, was[name], now)
			}
			was[name] = salt + rounds
		}
		if share := float64(anew) / names; share < float64(made)/users-0.1 || share > float64(made)/users+0.1 {
			t.Errorf("%d of %d users are made anew, and %.2f of those who do not exist", made, users, share)
		}
	}
}

// Where SCRAM is switched off, nothing is kept that only SCRAM needs.
func TestNoKeysWithoutScram(t *testing.T) {
	s := newStore(t)
	if s.List()[0].SCRAM == 0 {
		t.Fatal("anna has no keys")
	}
	l, _ := newLogin(Options{Store: s, Guesses: unlimited(), Mechanisms: []string{"plain", "LOGIN"}})
	_, err := s.AddToken("anna", NewToken{Name: "shop"})
	if err = errors.Join(err, s.Add(NewUser{Name: "rené", Password: "grüße-aus-köpenick"})); err != nil {
		t.Fatal(err)
	}
	for name, password := range map[string]string{"anna": string(goodPassword), "rené": "grüße-aus-köpenick"} {
		for range 2 {
			if r := l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00"+name+"\x00"+password), says()); r.Identity != name {
				t.Errorf("%s: %v", name, r.Reply)
			}
		}
	}
	for identity, a := range s.current().accounts {
		if a.keys != nil {
			t.Errorf("%s has SCRAM keys", identity)
		}
	}
	s.Methods(nil) // and on again
	l, _ = newLogin(Options{Store: s, Guesses: unlimited()})
	s.rounds = fewRounds
	if r := l.Authenticate(t.Context(), overTLS, "PLAIN", []byte("\x00anna\x00"+string(goodPassword)), says()); r.Identity != "anna" || s.account("anna").keys == nil {
		t.Errorf("switched on again: %v", r.Reply)
	}
}
