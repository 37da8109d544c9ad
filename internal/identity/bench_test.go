package identity

import (
	"fmt"
	"testing"
)

// A login as it is hashed, and as it is remembered.
func BenchmarkLogin(b *testing.B) {
	l, _ := newLogin(Options{Store: newStore(b), Guesses: unlimited()})
	initial := []byte("\x00anna\x00" + string(goodPassword))
	for _, remembered := range []bool{false, true} {
		b.Run(fmt.Sprintf("remembered=%v", remembered), func(b *testing.B) {
			for b.Loop() {
				if !remembered {
					l.proven = newProven()
				}
				if r := l.Authenticate(b.Context(), overTLS, "PLAIN", initial, says()); r.Identity != "anna" {
					b.Fatal(r.Reply)
				}
			}
		})
	}
}

func BenchmarkScram(b *testing.B) {
	l, _ := newLogin(Options{Store: newStore(b), Guesses: unlimited()})
	client := newScramClient(b, "anna", string(goodPassword), "") // it remembers its keys
	for b.Loop() {
		c := &scramClient{conv: client.NewConversation()}
		if r := l.Authenticate(b.Context(), overTLS, "SCRAM-SHA-256", nil, c.answer); r.Identity != "anna" {
			b.Fatal(r.Reply)
		}
	}
}
