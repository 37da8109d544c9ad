package identity

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
)

//go:embed words.txt
var wordsText string

// generated holds the words of generated passwords, each as likely as any.
var generated = slices.Sorted(maps.Keys(words(wordsText)))

// Generate makes a password that a person can remember and nobody can guess:
// three words and a number, as in quiet-otter-banjo-41. That is 39 bits, which
// at 500 guesses a day is two million years.
func Generate() Secret {
	s := ""
	for range 3 {
		s += generated[pick(len(generated))] + "-"
	}
	return Secret(s + strconv.Itoa(10+pick(90)))
}

// pick returns a number below n, each as likely as any.
func pick(n int) int {
	top := uint32(n)
	var b [4]byte
	for limit := -top % top; ; { // 2^32 mod n: numbers below it would be likelier
		_, _ = rand.Read(b[:])
		if v := binary.BigEndian.Uint32(b[:]); v >= limit {
			return int(v % top)
		}
	}
}
