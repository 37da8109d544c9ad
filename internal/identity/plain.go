package identity

import (
	"bytes"
	"context"
	"errors"
	"unicode/utf8"
)

// parsePlain reads the message of PLAIN: [authzid] NUL authcid NUL password
// (RFC 4616 section 2).
func parsePlain(b []byte) (authzid, authcid, password string, err error) {
	parts := bytes.Split(b, []byte{0})
	switch {
	case len(parts) != 3:
		return "", "", "", errors.New("PLAIN has two NULs")
	case !utf8.Valid(b):
		return "", "", "", errors.New("PLAIN is UTF-8")
	case len(parts[1]) == 0 || len(parts[2]) == 0:
		return "", "", "", errors.New("PLAIN has a name and a password")
	}
	return string(parts[0]), string(parts[1]), string(parts[2]), nil
}

// plain is PLAIN (RFC 4616). Nobody acts for somebody else: an authorization
// identity is empty or means who logs in.
func (l *Login) plain(ctx context.Context, a *attempt) Result {
	b, err := a.first()
	if err != nil {
		return gone(err)
	}
	authzid, authcid, password, err := parsePlain(b)
	if err != nil {
		return malformed(err.Error())
	}
	if authzid != "" && !sameName(authzid, authcid) {
		return refused(a, l.name(authcid)+" wants to act for "+l.name(authzid))
	}
	return l.password(ctx, a, authcid, password, "PLAIN")
}
