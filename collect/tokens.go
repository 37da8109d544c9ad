package collect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"postern/plan"
)

// Bounds of what may be minted; MaxTokens is for one request over the API.
const (
	MaxTokens = 1000
	MaxTTL    = 30 * 24 * time.Hour
)

// tokenLength is that of every token; package plan keeps the number to itself.
var tokenLength = len(plan.Mint(nil, [5]byte{}, time.Now()))

// keys are what is derived from a collector's secret: what a token proves says
// nothing of a banner, and neither tells the secret.
type keys struct{ token, banner []byte }

func newKeys(secret []byte) keys {
	derive := func(use string) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte("postern collector " + use))
		return h.Sum(nil)
	}
	return keys{token: derive("token"), banner: derive("banner")}
}

func (k keys) mint(n int, ttl time.Duration, now time.Time) ([]plan.Token, error) {
	if n < 0 || ttl <= 0 || ttl > MaxTTL {
		return nil, fmt.Errorf("%d tokens for %s; a collector mints tokens for up to %s", n, ttl, MaxTTL)
	}
	list := make([]plan.Token, n)
	for i := range list {
		var nonce [5]byte
		rand.Read(nonce[:]) // never fails: crypto/rand ends the program rather
		list[i] = plan.Mint(k.token, nonce, now.Add(ttl))
	}
	return list, nil
}

// verify reads the token at the start of text.
func (k keys) verify(text string, now time.Time) (plan.Token, error) {
	if len(text) < tokenLength {
		return "", plan.ErrToken
	}
	return plan.Verify(k.token, text[:tokenLength], now)
}

// find returns the live tokens of text, each once, in their order. expired
// reports whether it holds one that was ours. Every place is looked at, since
// what looks like a token may begin just before a true one.
func (k keys) find(text string, now time.Time) (live []plan.Token, expired bool) {
	s := scanner{keys: k, now: now, left: len(text)}
	_, _ = s.Write([]byte(text))
	return s.found, s.expired
}

// maxFound is how many tokens one message can name: a whole battery that came
// back in one notice would be odd, more is noise.
const maxFound = 32

// A scanner looks for live tokens in what is written to it.
type scanner struct {
	keys    keys
	now     time.Time
	left    int // octets that it will still look at
	found   []plan.Token
	expired bool
	tail    []byte // the end of what was written: a token may go on in the next piece
}

// Write never fails; beyond its bound the scanner looks no more.
func (s *scanner) Write(p []byte) (int, error) {
	n := len(p)
	p = p[:min(len(p), s.left)]
	s.left -= len(p)
	window := append(s.tail, p...)
	i := 0
	for ; i+tokenLength <= len(window) && len(s.found) < maxFound; i++ {
		if window[i]|0x20 != 'p' || window[i+1]|0x20 != 't' {
			continue
		}
		t, err := s.keys.verify(string(window[i:i+tokenLength]), s.now)
		switch {
		case err == nil && !slices.Contains(s.found, t):
			s.found = append(s.found, t)
		case err != nil && t != "":
			s.expired = true
		}
	}
	s.tail = append(s.tail[:0:0], window[max(0, len(window)-tokenLength+1):]...)
	return n, nil
}
