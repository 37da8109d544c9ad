package identity

import (
	"context"
	"unicode/utf8"
)

// login is LOGIN, which no RFC has and many programs speak
// (draft-murchison-sasl-login): the name, then the password, each after a
// challenge whose text some of them look at.
func (l *Login) login(ctx context.Context, a *attempt) Result {
	name := a.initial
	if len(name) == 0 {
		var err error
		if name, err = a.ask([]byte("Username:")); err != nil {
			return gone(err)
		}
	}
	password, err := a.ask([]byte("Password:"))
	if err != nil {
		return gone(err)
	}
	if !utf8.Valid(name) || !utf8.Valid(password) {
		return malformed("LOGIN is UTF-8")
	}
	return l.password(ctx, a, string(name), string(password), "LOGIN")
}
