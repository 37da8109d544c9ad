package plan

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"postern/mail"
)

//go:embed logins.tsv
var loginsTSV string

// A Credential is a name and a password that are tried at a door which asks for them.
type Credential struct {
	User, Password string
	Own            bool // of the caller's own list: its password is shown nowhere
}

// String names the login, and the password where anybody knows it.
func (l Credential) String() string {
	if l.Own || l.User == "" {
		return l.User
	}
	return fmt.Sprintf("%s with the password %s", l.User, l.Password)
}

// Logins returns the logins that anybody could guess, in the order in which
// they are tried. They are few: each is a wrong password at somebody's account.
var Logins = sync.OnceValue(func() []Credential {
	list, err := parseLogins("logins.tsv", loginsTSV)
	if err != nil {
		panic(err) // a broken build, found by its test
	}
	return list
})

// maxLogins bounds a list.
const maxLogins = 12

func parseLogins(file, text string) ([]Credential, error) {
	var list []Credential
	seen := map[string]bool{}
	for _, r := range rows(text) {
		switch {
		case len(r.cells) != 3 || r.cells[0] == "" || r.cells[2] == "":
			return nil, fmt.Errorf("%s:%d: a login has 3 cells: user, password, source", file, r.line)
		case seen[r.cells[0]]:
			return nil, fmt.Errorf("%s:%d: user %q stands twice; a second wrong password could lock the account", file, r.line, r.cells[0])
		case len(list) == maxLogins:
			return nil, fmt.Errorf("%s:%d: there are more than %d logins", file, r.line, maxLogins)
		}
		seen[r.cells[0]] = true
		list = append(list, Credential{User: r.cells[0], Password: r.cells[1]})
	}
	return list, nil
}

// maxOwnLogins bounds a list of the caller's own.
const maxOwnLogins = 100

// ReadLogins reads a list of the caller's own: a line for each, USER:PASSWORD,
// and # before a comment. What is wrong is said without the password.
func ReadLogins(r io.Reader) ([]Credential, error) {
	var list []Credential
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, password, ok := strings.Cut(line, ":")
		switch {
		case !ok || user == "":
			return nil, fmt.Errorf("line %d: a login is USER:PASSWORD", n)
		case strings.ContainsRune(line, 0) || len(user) > 255 || len(password) > 255: // RFC 4616 section 2, RFC 1929 section 2
			return nil, fmt.Errorf("line %d: a user and a password have at most 255 octets, and no NUL", n)
		case len(list) == maxOwnLogins:
			return nil, fmt.Errorf("line %d: there are more than %d logins", n, maxOwnLogins)
		}
		list = append(list, Credential{User: user, Password: password, Own: true})
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("there is no login in it")
	}
	return list, nil
}

// For fills in the target's names; ok is false where it has none to fill in.
func (l Credential) For(f Facts) (filled Credential, ok bool) {
	if l.Own {
		return l, true
	}
	for _, name := range []struct {
		mark string
		of   mail.Domain
	}{{"{dom}", f.Domain}, {"{host}", f.Host}} {
		label, _, _ := strings.Cut(name.of.ASCII(), ".")
		if !strings.Contains(l.User+l.Password, name.mark) {
			continue
		}
		if label == "" || name.of.IsLiteral() {
			return Credential{}, false
		}
		l.User, l.Password = strings.ReplaceAll(l.User, name.mark, label), strings.ReplaceAll(l.Password, name.mark, label)
	}
	return l, true
}

// Names returns the ways to write the user at a server that serves a domain:
// as it is, and with the domain or without it.
func (l Credential) Names(d mail.Domain) []string {
	if local, _, ok := strings.Cut(l.User, "@"); ok && local != "" {
		return []string{l.User, local}
	}
	if d.IsZero() || l.User == "" {
		return []string{l.User}
	}
	return []string{l.User, l.User + "@" + d.ASCII()}
}
