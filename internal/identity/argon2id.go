package identity

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// What new verifiers cost: the second choice of RFC 9106 section 4 scaled to
// 19 MiB, so that a small machine checks several at once. About 28 ms a core.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
)

// The most that a verifier from a file may cost, so that no file can take the
// machine: memory alone, and memory times passes.
const (
	maxArgonMemory = 256 * 1024  // KiB
	maxArgonWork   = 1024 * 1024 // KiB written in all
)

// argon2id is a verifier in the PHC string format.
type argon2id struct {
	memory, time uint32
	threads      uint8
	salt, hash   []byte
}

func newArgon2id(password string) argon2id {
	a := argon2id{memory: argonMemory, time: argonTime, threads: 1, salt: random(16), hash: make([]byte, 32)}
	a.hash = a.derive(password)
	return a
}

// dummyArgon2id costs as much as any of ours and matches nothing.
func dummyArgon2id() argon2id {
	return argon2id{memory: argonMemory, time: argonTime, threads: 1, salt: random(16), hash: random(32)}
}

var errArgon2id = errors.New("not an argon2id hash as in $argon2id$v=19$m=19456,t=2,p=1$salt$hash")

// parseArgon2id reads the PHC string format, with the parameters in their
// order and numbers and base64 in their only form.
func parseArgon2id(s string) (verifier, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return nil, errArgon2id
	}
	var a argon2id
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.time, &a.threads); n != 3 || err != nil {
		return nil, errArgon2id
	}
	var err error
	if a.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil {
		return nil, errArgon2id
	}
	if a.hash, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil {
		return nil, errArgon2id
	}
	if a.String() != s {
		return nil, errArgon2id
	}
	switch {
	case a.threads < 1 || a.threads > 16 || a.time < 1 || a.memory < 8*uint32(a.threads):
		return nil, errors.New("argon2id needs p of 1 to 16, t of at least 1, m of at least 8p (RFC 9106 section 3.1)")
	case a.memory > maxArgonMemory || uint64(a.memory)*uint64(a.time) > maxArgonWork:
		return nil, fmt.Errorf("argon2id may use at most m=%d here, and m times t at most %d", maxArgonMemory, maxArgonWork)
	case len(a.salt) < 8 || len(a.salt) > 64 || len(a.hash) < 16 || len(a.hash) > 64:
		return nil, errors.New("argon2id needs a salt of 8 to 64 octets and a hash of 16 to 64")
	}
	return a, nil
}

func (a argon2id) derive(password string) []byte {
	return argon2.IDKey([]byte(password), a.salt, a.time, a.memory, a.threads, uint32(len(a.hash)))
}

func (a argon2id) matches(password string) bool {
	return subtle.ConstantTimeCompare(a.derive(password), a.hash) == 1
}

func (a argon2id) String() string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", a.memory, a.time, a.threads, b.EncodeToString(a.salt), b.EncodeToString(a.hash))
}
