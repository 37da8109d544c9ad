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
	Name        string    `json:"name"`
	MaySendAs   []string  `json:"may_send_as"`        // as package policy reads them; empty: as nobody
	Password    string    `json:"password,omitempty"` // the scheme that the password is kept in; "": there is none
	SCRAM       int       `json:"scram_rounds,omitzero"`
	Certificate bool      `json:"certificate,omitempty"` // may log in with a client certificate that names it
	Disabled    bool      `json:"disabled,omitempty"`
	Created     time.Time `json:"created,omitzero"`
	Changed     time.Time `json:"changed,omitzero"`  // the password, the rights, or the state
	LastUse     time.Time `json:"last_use,omitzero"` // zero: never, or not for as long as is remembered
	Tokens      []Token   `json:"tokens,omitempty"`
}

// A Token is a password for one application, with no more rights than its user.
type Token struct {
	Name      string    `json:"name"`
	MaySendAs []string  `json:"may_send_as"`       // empty: as its user, whatever that is at each decision
	Rate      string    `json:"rate,omitempty"`    // messages a time as in "100/h"; "": the user's own
	Gateway   bool      `json:"gateway,omitempty"` // for gateways too, not for mail alone
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"` // zero: never
	LastUse   time.Time `json:"last_use,omitzero"`
}

// An Account is an identity that may log in now.
type Account struct {
	Identity  string   // "user" or "user/token"
	User      string   // the user, of a token too
	MaySendAs []string // as the store has it; of a token: some of its user's, or empty for all of them
	Gateway   bool     // no token, or one for gateways too
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
	MaySendAs []string // each must be among the user's; empty: all of them, at each decision
	Users     []string // what the user may send as, where something else than the store says so; nil: the store's
	Rate      string
	Gateway   bool // for gateways too
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

// Held returns what a token may send as: what its user may when it names nothing,
// else what it names and its user may (still).
func Held(user, token []string) []string {
	if len(token) == 0 {
		return user
	}
	var held []string
	for _, entry := range token {
		if covered(user, entry) {
			held = append(held, entry)
		}
	}
	return held
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
