package identity

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// minPassword is the least number of characters. NIST SP 800-63B wants 8 where
// guessing is limited; stolen verifiers are guessed without a limit.
const minPassword = 10

//go:embed common.txt
var commonText string

// common holds the words that are tried first.
var common = words(commonText)

// words reads a list: words between spaces, and lines that begin with "#".
func words(text string) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			for w := range strings.FieldsSeq(line) {
				set[w] = true
			}
		}
	}
	return set
}

// CheckPassword refuses a password that can be guessed and says why, without
// showing it. known are the words that a guesser has: the user's name and
// addresses. Length is what counts; there is no rule about kinds of characters.
func CheckPassword(password Secret, known ...string) error {
	const do = `choose a longer or less usual one, or let postern make one`
	refuse := func(what string) error { return wrong("this password "+what, do) }
	p := prepare(string(password))
	small := strings.ToLower(p)
	switch {
	case !utf8.ValidString(p):
		return refuse("is not UTF-8")
	case len(p) > maxPassword:
		return wrong("this password is longer than "+strconv.Itoa(maxPassword)+" bytes", "choose a shorter one")
	case strings.ContainsFunc(p, unicode.IsControl):
		return wrong("this password holds a control character, which no keyboard types twice", "choose one without")
	case utf8.RuneCountInString(p) < minPassword:
		return refuse("has fewer than " + strconv.Itoa(minPassword) + " characters")
	}
	names := namesOf(known)
	for _, n := range names {
		if len(n) >= 4 && strings.Contains(small, n) || small == n {
			return refuse("holds " + strconv.Quote(n) + ", which is the user's name or address")
		}
	}
	if n := distinct(small); n < 5 {
		return refuse("is made of " + strconv.Itoa(n) + " different characters")
	}
	if repeated(small) {
		return refuse("says the same thing again and again")
	}
	for _, form := range []string{small, reversed(small)} {
		if guessable(form, names) {
			return refuse("is made of words, digits and rows of keys that are tried first")
		}
	}
	return nil
}

// namesOf returns the words in names and addresses that a guesser would use:
// the whole, the local part, the domain, and the domain's labels.
func namesOf(known []string) []string {
	var names []string
	for _, k := range known {
		k = strings.ToLower(k)
		local, domain, _ := strings.Cut(k, "@")
		for _, n := range append([]string{k, local, domain}, strings.Split(domain, ".")...) {
			if len(n) >= 3 && n != "*" && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

func distinct(s string) int {
	seen := map[rune]bool{}
	for _, r := range s {
		seen[r] = true
	}
	return len(seen)
}

// repeated reports whether s is one short piece over and over.
func repeated(s string) bool {
	return strings.Contains((s + s)[1:2*len(s)-1], s)
}

func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// plainLetters undoes what people write for letters.
var plainLetters = strings.NewReplacer("0", "o", "1", "i", "!", "i", "3", "e", "4", "a", "@", "a", "5", "s", "$", "s", "7", "t", "+", "t", "8", "b", "9", "g")

// keyRows are the rows in which fingers run, from left to right.
var keyRows = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm", "1qaz2wsx3edc4rfv5tgb6yhn7ujm"}

// maxGuessable bounds the work of guessable. Whatever is longer is no word and
// a few digits.
const maxGuessable = 64

// guessable reports whether s falls apart, without a rest, into words that are
// tried first, names, digits, signs and runs of keys. A guesser who puts such
// pieces together finds it.
func guessable(s string, names []string) bool {
	if len(s) > maxGuessable {
		return false
	}
	reach := make([]bool, len(s)+1) // s[:i] falls apart
	reach[0] = true
	for i := range len(s) {
		if !reach[i] {
			continue
		}
		if s[i] < 'a' || s[i] > 'z' && s[i] < 0x80 {
			reach[i+1] = true
		}
		for j := i + 3; j <= len(s); j++ {
			piece := s[i:j]
			letters := plainLetters.Replace(piece)
			if common[piece] || common[letters] || slices.Contains(names, piece) || slices.Contains(names, letters) || run(piece) {
				reach[j] = true
			}
		}
	}
	return reach[len(s)]
}

// run reports whether s is a part of a row of keys, in either direction, or one
// character several times.
func run(s string) bool {
	for _, row := range keyRows {
		if strings.Contains(row, s) || strings.Contains(row, reversed(s)) {
			return true
		}
	}
	return s[0] < 0x80 && strings.Count(s, s[:1]) == len(s)
}
