package identity

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
)

// A Secret is a password or the secret of a token. However it is printed,
// logged or marshalled, "(hidden)" comes out; string(s) is the text itself.
type Secret string

const hidden = "(hidden)"

// Format prints "(hidden)" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String returns "(hidden)".
func (Secret) String() string { return hidden }

// LogValue is "(hidden)".
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns "(hidden)".
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// random returns n bytes that nobody can guess. crypto/rand does not fail.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// newTokenSecret returns 160 bits as text without characters that need quoting.
func newTokenSecret() Secret { return Secret(base64.RawURLEncoding.EncodeToString(random(20))) }
