package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/problem"
)

// bookVersion is the form of users.json; a later one is refused.
const bookVersion = 1

// maxUsers bounds what a damaged or hostile file can make us hold.
const maxUsers = 1_000_000

// A record is a user as users.json has it.
type record struct {
	Name        string        `json:"name"`
	Password    string        `json:"password,omitempty"`
	SCRAM       string        `json:"scram_sha_256,omitempty"`
	MaySendAs   []string      `json:"may_send_as,omitempty"`
	Certificate bool          `json:"certificate,omitempty"`
	Disabled    bool          `json:"disabled,omitempty"`
	Created     time.Time     `json:"created"`
	Changed     time.Time     `json:"changed"`
	Tokens      []tokenRecord `json:"tokens,omitempty"`
}

func byName(x, y record) int { return strings.Compare(x.Name, y.Name) }

type tokenRecord struct {
	Name      string    `json:"name"`
	Password  string    `json:"password"`
	SCRAM     string    `json:"scram_sha_256,omitempty"`
	MaySendAs []string  `json:"may_send_as,omitempty"`
	Rate      string    `json:"rate,omitempty"`
	Gateway   bool      `json:"gateway,omitempty"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"`
}

// An account is an identity ready to be proven. It does not change.
type account struct {
	Account
	credential
	certificate bool
	disabled    bool
	expires     time.Time
}

// usable reports whether the account may log in at all.
func (a *account) usable(now time.Time) bool {
	return a != nil && !a.disabled && (a.expires.IsZero() || now.Before(a.expires))
}

// A book is the content of users.json. It is not changed once it is read.
type book struct {
	users    []record // by name
	accounts map[string]*account
	rounds   []int // of all SCRAM keys, the fewest first
}

// readBook reads users.json strictly: one unknown word, and none of it is
// taken. Errors name the file, the line and the user.
func readBook(file string, data []byte) (*book, error) {
	b := &book{accounts: map[string]*account{}}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	fail := func(at int64, what string) error {
		line := 1 + bytes.Count(data[:min(int(at), len(data))], []byte{'\n'})
		return problem.At(problem.Pos{File: file, Line: line}, what,
			"mend the line or put a copy of the file back; until then the users that were read before stay in force")
	}
	if err := readHead(dec); err != nil {
		return nil, fail(dec.InputOffset(), err.Error())
	}
	for dec.More() {
		begins := dec.InputOffset() // before the comma and the line end, which belong to the user before
		for begins < int64(len(data)) && strings.IndexByte(", \t\r\n", data[begins]) >= 0 {
			begins++
		}
		var r record
		if err := dec.Decode(&r); err != nil {
			return nil, fail(begins, "not a user: "+plain(err))
		}
		if err := b.add(r); err != nil {
			return nil, fail(begins, "user "+strconv.Quote(r.Name)+": "+err.Error())
		}
	}
	for _, want := range []json.Delim{']', '}'} {
		if t, err := dec.Token(); err != nil || t != want {
			return nil, fail(dec.InputOffset(), "the list of users does not end as it should")
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fail(dec.InputOffset(), "something follows the list of users")
	}
	slices.SortFunc(b.users, byName)
	for _, a := range b.accounts {
		if n := roundsOf(a); n > 0 {
			b.rounds = append(b.rounds, n)
		}
	}
	slices.Sort(b.rounds)
	return b, nil
}

// readHead reads all that stands before the first user.
func readHead(dec *json.Decoder) error {
	for _, want := range []json.Token{json.Delim('{'), "postern_users", float64(bookVersion), "users", json.Delim('[')} {
		t, err := dec.Token()
		switch {
		case err != nil:
			return errors.New("not a list of users: " + plain(err))
		case t == want:
		case want == float64(bookVersion):
			return fmt.Errorf("version %v of the list is not ours (%d)", t, bookVersion)
		default:
			return errors.New("not a list of users")
		}
	}
	return nil
}

// plain says what json has against a text, without showing a value of it.
func plain(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return "the field " + wrong.Field + " has the wrong type"
	}
	if s := err.Error(); strings.HasPrefix(s, "json: unknown field") {
		return strings.TrimPrefix(s, "json: ")
	}
	return "no JSON as it should be"
}

// add checks a record and takes it up.
func (b *book) add(r record) error {
	if name, err := parseName(r.Name); err != nil {
		return err
	} else if name != r.Name {
		return errors.New("the name must be written " + strconv.Quote(name))
	}
	switch {
	case b.accounts[r.Name] != nil:
		return errors.New("stands there twice")
	case len(b.users) >= maxUsers:
		return fmt.Errorf("more than %d users", maxUsers)
	case r.Password == "" && r.SCRAM != "":
		return errors.New("SCRAM keys without a password")
	}
	if err := checkSenders(r.MaySendAs); err != nil {
		return err
	}
	c, err := readCredential(r.Password, r.SCRAM)
	if err != nil {
		return err
	}
	b.accounts[r.Name] = &account{
		Account:    Account{Identity: r.Name, User: r.Name, MaySendAs: r.MaySendAs, Gateway: true},
		credential: c, certificate: r.Certificate, disabled: r.Disabled,
	}
	for _, t := range r.Tokens {
		if err := b.addToken(r, t); err != nil {
			return fmt.Errorf("token %q: %w", t.Name, err)
		}
	}
	b.users = append(b.users, r)
	return nil
}

func (b *book) addToken(r record, t tokenRecord) error {
	name, err := parseName(t.Name)
	switch {
	case err != nil:
		return err
	case name != t.Name:
		return errors.New("the name must be written " + strconv.Quote(name))
	case b.accounts[join(r.Name, name)] != nil:
		return errors.New("stands there twice")
	}
	if err := errors.Join(checkSenders(t.MaySendAs), checkRate(t.Rate)); err != nil {
		return err
	}
	c, err := readCredential(t.Password, t.SCRAM)
	if err != nil {
		return err
	}
	if c.password == nil {
		return errors.New("it has no verifier")
	}
	a := &account{
		Account:    Account{Identity: join(r.Name, name), User: r.Name, MaySendAs: t.MaySendAs, Rate: t.Rate, Gateway: t.Gateway},
		credential: c, disabled: r.Disabled, expires: t.Expires,
	}
	b.accounts[a.Identity] = a
	return nil
}

func readCredential(password, keys string) (c credential, err error) {
	if password != "" {
		if c.password, err = parseVerifier(password); err != nil {
			return credential{}, fmt.Errorf("password: %w", err)
		}
		if c.password.String() != password {
			return credential{}, errors.New("password: the verifier stands without its scheme in braces here")
		}
	}
	if keys != "" {
		if c.keys, err = parseScramKeys(keys); err != nil {
			return credential{}, err
		}
	}
	return c, nil
}

// writeBook is the inverse of readBook: one user a line, so that a line names
// a user and two states can be compared.
func writeBook(users []record) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\"postern_users\": %d, \"users\": [", bookVersion)
	enc := json.NewEncoder(&out) // ends each value with a line end
	enc.SetEscapeHTML(false)     // "<>" stays legible
	for i, r := range users {
		if i > 0 {
			out.Truncate(out.Len() - 1)
			out.WriteString(",")
		}
		out.WriteString("\n")
		if err := enc.Encode(r); err != nil {
			return nil, fmt.Errorf("user %q: %w", r.Name, err)
		}
	}
	if len(users) == 0 {
		out.WriteByte('\n')
	}
	out.WriteString("]}\n")
	return out.Bytes(), nil
}
