package resolve

import (
	"errors"
	"net/netip"
)

// What a lookup can end with besides records; test with errors.Is.
var (
	ErrNoName  = errors.New("the name does not exist (NXDOMAIN)")
	ErrNoData  = errors.New("the name has no record of this type")
	ErrServer  = errors.New("no server gave an answer")           // SERVFAIL, REFUSED, lame, garbage
	ErrTimeout = errors.New("no server answered in time")         // or the caller's context ended
	ErrNullMX  = errors.New("the domain takes no mail (null MX)") // RFC 7505
	ErrName    = errors.New("not a domain name")
)

// An Error says which question had no answer, and which server said so.
type Error struct {
	Name   string         // as asked
	Type   string         // MX, A, ...
	Server netip.AddrPort // zero when no server was reached, or it was not asked
	Err    error          // one of the above
	Cause  error          // more of it, may be nil
}

func (e *Error) Error() string {
	s := e.Type + " of " + e.Name + ": " + e.Err.Error()
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Server.IsValid() {
		s += " (asked " + e.Server.String() + ")"
	}
	return s
}

// Unwrap gives what the error is and its cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// negative reports whether the error is an answer: the DNS said that there is nothing.
func negative(err error) bool { return errors.Is(err, ErrNoName) || errors.Is(err, ErrNoData) }
