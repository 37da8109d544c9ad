package identity

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// A verifier is what we keep instead of a password.
type verifier interface {
	// matches does all of its work whether the password is right or not.
	matches(password string) bool
	// String returns the text that parseVerifier reads.
	String() string
}

// schemes are the ways in which verifiers are written: the name between
// braces as Dovecot writes it, and the prefix that tells it without.
var schemes = []struct {
	name, prefix string
	parse        func(string) (verifier, error)
}{
	{"ARGON2ID", "$argon2id$", parseArgon2id},
	{"BLF-CRYPT", "$2", parseBcrypt},
	{"SHA512-CRYPT", "$6$", parseSHA512Crypt},
}

// errScheme refuses what we cannot check, or what is too weak to be kept.
var errScheme = errors.New("only ARGON2ID, BLF-CRYPT and SHA512-CRYPT can be taken over; give the user a new password")

// parseVerifier reads a verifier with its scheme in braces, or told by its
// prefix. {CRYPT} is any that crypt(3) knows. Errors do not show the text.
func parseVerifier(s string) (verifier, error) {
	name := "CRYPT"
	if rest, ok := strings.CutPrefix(s, "{"); ok {
		scheme, text, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, errors.New("the brace of the scheme is not closed")
		}
		name, s = strings.ToUpper(scheme), text
	}
	for _, scheme := range schemes {
		if (name == scheme.name || name == "CRYPT") && strings.HasPrefix(s, scheme.prefix) {
			return scheme.parse(s)
		}
		if name == scheme.name {
			return nil, fmt.Errorf("a verifier of %s begins with %s", scheme.name, scheme.prefix)
		}
	}
	return nil, errScheme
}

// bcryptHash is a verifier of the Blowfish kind.
type bcryptHash string

// maxBcryptCost bounds the work of one login: 2^14 rounds take about a second.
const maxBcryptCost = 14

// parseBcrypt reads $2a$, $2b$ and $2y$; $2x$ marks hashes of a broken program.
func parseBcrypt(s string) (verifier, error) {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(s) != 60 || !strings.Contains("aby", s[2:3]) || s[3] != '$' || s[6] != '$' || strings.Trim(s[7:], alphabet) != "" {
		return nil, errors.New("not a bcrypt hash ($2a$, $2b$ or $2y$, two digits, 53 characters)")
	}
	cost, err := bcrypt.Cost([]byte(s))
	if err != nil || cost > maxBcryptCost {
		return nil, fmt.Errorf("the cost of a bcrypt hash is 04 to %d here", maxBcryptCost)
	}
	return bcryptHash(s), nil
}

func (h bcryptHash) matches(password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(h), []byte(password)) == nil
}

func (h bcryptHash) String() string { return string(h) }

// A credential is all that we keep of one password.
type credential struct {
	password verifier   // nil: there is no password
	keys     *scramKeys // nil: not known until the password was shown once
}

// newCredential makes both verifiers of a password; with no rounds, no SCRAM
// keys. It takes as long as five logins.
func newCredential(password Secret, rounds int) (credential, error) {
	if rounds == 0 { // form takes it as it was typed, without keys
		return credential{newArgon2id(string(password)), nil}, nil
	}
	p := prepare(string(password))
	keys, err := newScramKeys(p, rounds)
	if err != nil {
		return credential{}, err
	}
	return credential{newArgon2id(p), keys}, nil
}

// texts are what users.json has of it.
func (c credential) texts() (password, keys string) {
	if c.keys != nil {
		keys = c.keys.String()
	}
	return c.password.String(), keys
}

// form returns the password as the verifier was made of it. What has no keys was
// hashed as it was typed, without SASLprep: by others, or while SCRAM was off.
func (c credential) form(password string) string {
	if c.keys == nil {
		return password
	}
	return prepare(password)
}

// current reports whether the credential is as newCredential makes it today.
func (c credential) current(rounds int) bool {
	a, ok := c.password.(argon2id)
	keys := c.keys != nil && c.keys.iterations >= rounds
	if rounds == 0 {
		keys = c.keys == nil
	}
	return ok && keys && a.memory >= argonMemory && a.time >= argonTime
}
