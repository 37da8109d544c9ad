package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// scramRounds make the keys as dear to guess from as the hash beside them: who
// has users.json guesses against the cheaper of the two. The server does them
// once for a password, 0.1 s, and a client at each login or once in all. Once
// they were formerRounds; the next login that shows the password makes them anew.
const (
	scramRounds  = 600_000
	formerRounds = 10_000
)

// scramKeys are the server's half of SCRAM-SHA-256 (RFC 5802 section 3,
// RFC 7677): enough to verify a client, not enough to be one.
type scramKeys struct {
	iterations           int
	salt, stored, server []byte
}

// newScramKeys makes keys of a password that went through prepare.
func newScramKeys(password string, rounds int) (*scramKeys, error) {
	client, err := scram.SHA256.NewClientUnprepped("", password, "")
	if err != nil {
		return nil, fmt.Errorf("SCRAM keys: %w", err)
	}
	salt := random(16)
	c, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: rounds})
	if err != nil {
		return nil, fmt.Errorf("SCRAM keys: %w", err)
	}
	return &scramKeys{rounds, salt, c.StoredKey, c.ServerKey}, nil
}

var errScramKeys = errors.New("not SCRAM keys as in SCRAM-SHA-256$10000:salt$stored:server (RFC 5803)")

// parseScramKeys reads the form of RFC 5803 section 2.
func parseScramKeys(s string) (*scramKeys, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return nil, errScramKeys
	}
	iterations, salt, ok1 := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	n, err := strconv.Atoi(iterations)
	if !ok1 || !ok2 || err != nil {
		return nil, errScramKeys
	}
	k := &scramKeys{iterations: n}
	for _, f := range []struct {
		text string
		into *[]byte
	}{{salt, &k.salt}, {stored, &k.stored}, {server, &k.server}} {
		if *f.into, err = base64.StdEncoding.Strict().DecodeString(f.text); err != nil {
			return nil, errScramKeys
		}
	}
	// 4096: RFC 7677 section 4; a client that is asked for more than a million gives up.
	if n < 4096 || n > 1_000_000 || len(k.salt) < 8 || len(k.salt) > 64 ||
		len(k.stored) != sha256.Size || len(k.server) != sha256.Size || k.String() != s {
		return nil, errScramKeys
	}
	return k, nil
}

func (k *scramKeys) String() string {
	b := base64.StdEncoding
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", k.iterations, b.EncodeToString(k.salt), b.EncodeToString(k.stored), b.EncodeToString(k.server))
}

// credentials returns the keys as the library takes them.
func (k *scramKeys) credentials() scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(k.salt), Iters: k.iterations},
		StoredKey:  k.stored,
		ServerKey:  k.server,
	}
}
