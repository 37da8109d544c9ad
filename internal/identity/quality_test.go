package identity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
)

func TestCheckPassword(t *testing.T) {
	for _, c := range []struct{ name, password, why string }{ // why: a part of the refusal, "" where it is taken
		{"three words and a number", "quiet-otter-banjo-41", ""},
		{"one of a password manager", "x9Tq!v2Lr0z#", ""},
		{"a sentence", "the cat sat on my blue sofa", ""},
		{"not ASCII", "grüße aus köpenick", ""},
		{"emoji, which SASLprep does not know", "🦦🎸🥁🪕🎻🎺🪗🎷🪈🎹", ""},
		{"nine characters", "k3$vQ9!zt", "fewer than 10"},
		{"ten octets and five characters", "ééééé", "fewer than 10"},
		{"the user's name", "i-am-anna-smith", "name or address"},
		{"the user's domain", "for-example.org-only", "name or address"},
		{"a label of it in capitals", "xx-EXAMPLE-yy", "name or address"},
		{"one character", "aaaaaaaaaaaa", "different characters"},
		{"two words over and over", "blueskyblueskybluesky", "again and again"},
		{"common with digits", "password123456", "tried first"},
		{"in other letters", "P4$$w0rd!2024", "tried first"},
		{"backwards", "321drowssap!", "tried first"},
		{"two common words", "Sunshine-Dragon", "tried first"},
		{"a famous one", "correct horse battery staple", "tried first"},
		{"a row of keys", "qwertyuiop1234", "tried first"},
		{"the alphabet", "abcdefghijkl", "tried first"},
		{"downwards", "9876543210zyx", "tried first"},
		{"a date", "summer-2024-07-14", "tried first"},
		{"a control character", "quiet-otter\x07banjo", "control character"},
		{"not UTF-8", "quiet-otter\xffbanjo", "not UTF-8"},
		{"too long", strings.Repeat("quiet otter ", 100), "longer than 1024"},
	} {
		err := CheckPassword(Secret(c.password), "anna", "anna@example.org", "*@example.org")
		switch {
		case c.why == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.why)
		case err != nil && len(c.password) > 4 && strings.Contains(err.Error(), c.password):
			t.Errorf("%s: the refusal shows the password: %v", c.name, err)
		}
	}
}

func TestGeneratedPasswordsAreTaken(t *testing.T) {
	if bits := 3*math.Log2(float64(len(generated))) + math.Log2(90); bits < 39 {
		t.Errorf("%d words make %.1f bits, want 39", len(generated), bits)
	}
	for _, w := range generated {
		if common[w] || len(w) < 3 || len(w) > 8 || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Errorf("words.txt holds %q, which is common, not 3 to 8 letters, or not in small letters", w)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		p := Generate()
		if err := CheckPassword(p); err != nil {
			t.Errorf("%s: %v", string(p), err)
		}
		if seen[string(p)] {
			t.Errorf("%s twice in a thousand", string(p))
		}
		seen[string(p)] = true
	}
}

func TestPickIsEven(t *testing.T) {
	const n, times = 3, 30000
	var got [n]int
	for range times {
		got[pick(n)]++
	}
	for i, c := range got { // 10 standard deviations: fails by chance once in 10^23 runs
		if c < times/n-820 || c > times/n+820 {
			t.Errorf("%d came %d times of %d", i, c, times)
		}
	}
}

func TestSecretIsHidden(t *testing.T) {
	s := Secret("quiet-otter-banjo-41")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("secret", s))
	js, err := json.Marshal(map[string]any{"secret": s, "user": NewUser{Password: s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %q %v %+v %#v %x %d", s, s, s, s, s, s, s), s.String(), log.String(), string(js),
		fmt.Sprintf("%+v", NewUser{Password: s}), fmt.Errorf("password %v", s).Error(),
	} {
		if strings.Contains(text, "otter") || strings.Contains(text, "6f74746572") || !strings.Contains(text, hidden) {
			t.Errorf("printed as %s", text)
		}
	}
}

func FuzzCheckPassword(f *testing.F) {
	f.Add("quiet-otter-banjo-41", "anna")
	f.Add("", "")
	f.Add("ééééé\xffééééé", "é@é.é")
	f.Fuzz(func(t *testing.T, password, name string) {
		// Whatever is taken can be kept, and is right afterwards.
		if CheckPassword(Secret(password), name) != nil {
			return
		}
		if _, err := newScramKeys(prepare(password), fewRounds); err != nil {
			t.Errorf("%q: %v", password, err)
		}
		if len(name) >= 4 && strings.Contains(strings.ToLower(prepare(password)), strings.ToLower(name)) && !strings.Contains(name, "@") {
			t.Errorf("%q holds %q", password, name)
		}
	})
}
