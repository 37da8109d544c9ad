package plan

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var tokenTime = time.Date(2026, 11, 24, 10, 0, 30, 0, time.UTC)

func TestTokens(t *testing.T) {
	secret := []byte("the secret of the collector")
	good := Mint(secret, [5]byte{1, 2, 3, 4, 5}, tokenTime.Add(time.Hour))
	flipped := []byte(good)
	flipped[10] ^= 1
	for _, c := range []struct {
		name, text string
		at         time.Time
		want       error
	}{
		{"as minted", string(good), tokenTime, nil},
		{"in upper case", strings.ToUpper(string(good)), tokenTime, nil},
		{"in its last minute", string(good), tokenTime.Add(time.Hour), nil},
		{"expired", string(good), tokenTime.Add(time.Hour + time.Minute), ErrExpired},
		{"one letter changed", string(flipped), tokenTime, ErrToken},
		{"cut short", string(good[:len(good)-1]), tokenTime, ErrToken},
		{"something follows", string(good) + "a", tokenTime, ErrToken},
		{"empty", "", tokenTime, ErrToken},
	} {
		if _, err := Verify(secret, c.text, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: Verify(%q) = %v, want %v", c.name, c.text, err, c.want)
		}
	}
	if _, err := Verify([]byte("another secret"), string(good), tokenTime); !errors.Is(err, ErrToken) {
		t.Errorf("another collector's token: %v, want %v", err, ErrToken)
	}
}

func TestFindTokens(t *testing.T) {
	a := Mint(nil, [5]byte{1}, tokenTime)
	b := Mint(nil, [5]byte{2}, tokenTime)
	text := "Subject: pt pt! " + strings.ToUpper(string(a)) + "\nto <x+" + string(b) + "@d> again " + string(a)
	if got := FindTokens(text, 10); len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("FindTokens = %q, want %q", got, []Token{a, b})
	}
	if got := FindTokens(text, 1); len(got) != 1 {
		t.Errorf("FindTokens with a limit of 1 = %q", got)
	}
}

func FuzzVerifyToken(f *testing.F) {
	secret := []byte("secret")
	good := Mint(secret, [5]byte{9}, tokenTime.Add(time.Hour))
	f.Add(string(good))
	f.Add("pt")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Verify(secret, text, tokenTime)
		if err == nil && got != good {
			t.Fatalf("Verify(%q) took a token that was never minted: %q", text, got)
		}
		if err == nil && len(FindTokens(" "+text+"@", 5)) == 0 {
			t.Fatalf("FindTokens does not find %q", text)
		}
	})
}
