package identity

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// A User is what can be told of a user; verifiers are not among it.
type User struct {
	Name        string
	MaySendAs   []string // as package policy reads them; empty: as nobody
	Password    string   // the scheme that the password is kept in; "" for none
	SCRAM       bool     // SCRAM keys are there
	Certificate bool     // may log in with a client certificate that names it
	Disabled    bool
	Created     time.Time
	Changed     time.Time // the password, the rights, or the state
	LastUse     time.Time // zero: never, or not for as long as is remembered
	Tokens      []Token
}

// A Token is a password for one application, with no more rights than its user.
type Token struct {
	Name      string
	MaySendAs []string
	Rate      string // messages a time as in "100/h"; "" for the user's own
	Created   time.Time
	Expires   time.Time // zero: never
	LastUse   time.Time
}

// An Account is an identity that may log in now.
type Account struct {
	Identity  string   // "user" or "user/token"
	User      string   // the user, of a token too
	MaySendAs []string // of a token: what its user may still send as
	Rate      string   // of a token; "" for the user's own
}

// A NewUser is what Add takes.
type NewUser struct {
	Name        string
	Password    Secret // may be "" only where Certificate is set
	MaySendAs   []string
	Certificate bool
}

// A NewToken is what AddToken takes.
type NewToken struct {
	Name      string
	MaySendAs []string // each must be among the user's; none: all of them
	Rate      string
	Expires   time.Time
}

// checkSenders says what is wrong with a list of addresses. It holds the
// forms that package policy reads.
func checkSenders(list []string) error {
	for _, s := range list {
		var err error
		switch {
		case s == "*" || s == "<>":
		case strings.HasPrefix(s, "*@"):
			_, err = mail.ParseDomain(s[2:])
		default:
			_, err = mail.ParseAddress(s)
		}
		if err != nil {
			return errors.New(strconv.Quote(s) + ` is neither name@domain, *@domain, "*" nor "<>"`)
		}
	}
	return nil
}

// covered reports whether an entry of a token is among the user's: the same
// words, or one address, or one domain, below a wider entry.
func covered(list []string, entry string) bool {
	return slices.ContainsFunc(list, func(have string) bool {
		if strings.EqualFold(have, entry) {
			return true
		}
		domain, ok := strings.CutPrefix(have, "*@")
		at := strings.LastIndexByte(entry, '@')
		return at >= 0 && (have == "*" || ok && strings.EqualFold(domain, entry[at+1:]))
	})
}

// checkRate says what is wrong with "number/unit"; the units are s, m, h, d.
func checkRate(s string) error {
	if s == "" {
		return nil
	}
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || len(unit) != 1 || !strings.Contains("smhd", unit) || strconv.Itoa(n) != number {
		return errors.New(strconv.Quote(s) + ` is no rate; write it as "100/h", the units are s, m, h and d`)
	}
	return nil
}
