package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"time"
)

// A Token names one probe of one form. It stands in the recipient's local
// part, in the Message-ID, the Subject and the body, so that it survives what
// relays rewrite. It is letters and digits that read the same in any case,
// and it verifies only with the secret of the collector that minted it.
type Token string

// Token text: a prefix that makes tokens findable, then base32 of 3 octets of
// expiry (minutes since tokenEpoch), 5 of nonce, 7 of HMAC-SHA-256. 56 bits of
// MAC are enough for a secret that can only be guessed at online, and keep the
// local part short: a form may have to quote the token and a domain within
// the 64 octets of RFC 5321 section 4.5.3.1.1.
const (
	tokenPrefix = "pt"
	tokenLength = len(tokenPrefix) + 24
	nonceLength = 5
	macLength   = 7
)

var (
	tokenEpoch    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

// ErrToken is returned for a text that is no token of this secret, and
// ErrExpired for one that was.
var (
	ErrToken   = errors.New("not a token of this collector")
	ErrExpired = errors.New("the token has expired")
)

// Mint makes the token of one probe. Nonces must come from a good source of
// chance and must not repeat; expires is kept to the minute, rounded up.
func Mint(secret []byte, nonce [nonceLength]byte, expires time.Time) Token {
	minutes := uint32((expires.Sub(tokenEpoch) + time.Minute - 1) / time.Minute)
	raw := make([]byte, 0, 3+nonceLength+macLength)
	raw = append(raw, byte(minutes>>16), byte(minutes>>8), byte(minutes))
	raw = append(raw, nonce[:]...)
	raw = append(raw, tokenMAC(secret, raw)...)
	return Token(tokenPrefix + tokenEncoding.EncodeToString(raw))
}

// Verify reads a token in any case and checks its MAC, then its expiry.
// Of an expired token it returns the token and ErrExpired.
func Verify(secret []byte, text string, now time.Time) (Token, error) {
	t, ok := tokenAt(strings.ToLower(text))
	if !ok || len(text) != tokenLength {
		return "", ErrToken
	}
	raw, err := tokenEncoding.DecodeString(string(t[len(tokenPrefix):]))
	if err != nil {
		return "", ErrToken
	}
	body, mac := raw[:3+nonceLength], raw[3+nonceLength:]
	if !hmac.Equal(mac, tokenMAC(secret, body)) {
		return "", ErrToken
	}
	minutes := int(raw[0])<<16 | int(raw[1])<<8 | int(raw[2])
	if now.After(tokenEpoch.Add(time.Duration(minutes) * time.Minute)) {
		return t, ErrExpired
	}
	return t, nil
}

// FindTokens returns what looks like a token in text, in lower case, each
// once, in its order; at most limit of them. Only Verify tells a real one.
func FindTokens(text string, limit int) []Token {
	var found []Token
	lower := strings.ToLower(text)
	for len(found) < limit {
		i := strings.Index(lower, tokenPrefix)
		if i < 0 {
			break
		}
		t, ok := tokenAt(lower[i:])
		if !ok {
			lower = lower[i+1:]
			continue
		}
		lower = lower[i+tokenLength:]
		if !contains(found, t) {
			found = append(found, t)
		}
	}
	return found
}

func contains(list []Token, t Token) bool {
	for _, have := range list {
		if have == t {
			return true
		}
	}
	return false
}

// tokenAt reads the form of a token at the start of lower-case text.
func tokenAt(lower string) (Token, bool) {
	if len(lower) < tokenLength || !strings.HasPrefix(lower, tokenPrefix) {
		return "", false
	}
	for _, b := range []byte(lower[len(tokenPrefix):tokenLength]) {
		if (b < 'a' || b > 'z') && (b < '2' || b > '7') {
			return "", false
		}
	}
	return Token(lower[:tokenLength]), true
}

func tokenMAC(secret, body []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("postern token 1\x00"))
	h.Write(body)
	return h.Sum(nil)[:macLength]
}
