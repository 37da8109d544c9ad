package identity

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// maxName bounds a user's or a token's name in bytes, so that two of them fit
// into a log line and into a reply.
const maxName = 128

// reserved are the characters that separate names from something else in the
// texts where they stand: identities, passwd files, header fields, logs.
const reserved = "/\"'`<>\\:,;()*"

// parseName returns the one form in which a user's or a token's name is kept
// and compared: SASLprep (RFC 4013), in small letters. SASLprep stands twice,
// because small letters are not always normalised.
func parseName(s string) (string, error) {
	if len(s) > maxName {
		return "", errors.New("a name has at most " + strconv.Itoa(maxName) + " bytes")
	}
	if !utf8.ValidString(s) {
		return "", errors.New("a name is UTF-8")
	}
	name, err := stringprep.SASLprep.Prepare(s)
	if err == nil {
		name, err = stringprep.SASLprep.Prepare(strings.ToLower(name))
	}
	switch {
	case err != nil:
		return "", errors.New("a name has only letters, digits and signs of Unicode 3.2, and no control characters (RFC 4013)")
	case name == "":
		return "", errors.New("a name is not empty")
	case len(name) > maxName:
		return "", errors.New("a name has at most " + strconv.Itoa(maxName) + " bytes")
	case strings.TrimSpace(name) != name:
		return "", errors.New("a name neither begins nor ends with a space")
	case strings.ContainsAny(name, reserved):
		return "", errors.New("a name has none of the characters " + reserved)
	}
	return name, nil
}

// parseIdentity reads "user" or "user/token" and returns both names in the
// form in which they are kept.
func parseIdentity(s string) (user, token string, err error) {
	u, t, ok := strings.Cut(s, "/")
	if user, err = parseName(u); err == nil && ok {
		token, err = parseName(t)
	}
	if err != nil {
		return "", "", err
	}
	return user, token, nil
}

// join is the inverse of parseIdentity.
func join(user, token string) string {
	if token == "" {
		return user
	}
	return user + "/" + token
}

// prepare returns the password as all of our own verifiers are made of it
// (RFC 4616 section 2, RFC 5802 section 2.2). SASLprep knows Unicode 3.2 only;
// what is younger goes as it stands, which is what clients do with it too.
func prepare(password string) string {
	if p, err := stringprep.SASLprep.Prepare(password); err == nil && p != "" {
		return p
	}
	return password
}
