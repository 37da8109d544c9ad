package identity

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"time"

	"postern/internal/problem"
	"postern/internal/state"
)

// change applies f to what the file holds now, under the lock, and puts the
// result into its place and into force. What could not be read again is not
// written.
func (s *Store) change(f func(users *[]record) error) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	b, _, err := s.read()
	if err != nil {
		return err
	}
	users := slices.Clone(b.users) // f replaces what it changes
	if err := f(&users); err != nil {
		return err
	}
	slices.SortFunc(users, byName)
	data, err := writeBook(users)
	if err != nil {
		return err
	}
	if b, err = readBook(s.path(), data); err != nil {
		return err
	}
	if err := state.WriteFile(s.path(), data); err != nil {
		return err
	}
	info, err := os.Lstat(s.path())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book, s.seen, s.looked, s.fault = b, stampOf(info), time.Now(), nil
	return nil
}

// now is what Created and Changed say.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func wrong(what, do string) error { return problem.At(problem.Pos{}, what, do) }

// named returns the normal form of a user's name, or a problem.
func named(kind, name string) (string, error) {
	n, err := parseName(name)
	if err != nil {
		return "", wrong(kind+" "+strconv.Quote(name)+": "+err.Error(), "choose another name")
	}
	return n, nil
}

// edit changes one user that must exist; Changed is set.
func (s *Store) edit(name string, f func(*record) error) error {
	n, err := named("user", name)
	if err != nil {
		return err
	}
	return s.change(func(users *[]record) error {
		i := slices.IndexFunc(*users, func(r record) bool { return r.Name == n })
		if i < 0 {
			return unknown(n)
		}
		r := (*users)[i]
		r.Tokens = slices.Clone(r.Tokens)
		if err := f(&r); err != nil {
			return err
		}
		r.Changed = now()
		(*users)[i] = r
		return nil
	})
}

// Add makes a user. A password that can be guessed is refused.
func (s *Store) Add(u NewUser) error {
	name, err := named("user", u.Name)
	if err != nil {
		return err
	}
	if err := checkSenders(u.MaySendAs); err != nil {
		return wrong("user "+strconv.Quote(name)+": "+err.Error(), "")
	}
	if s.account(name) != nil { // before the work of hashing; it is looked at again under the lock
		return exists(name)
	}
	r := record{Name: name, MaySendAs: slices.Clone(u.MaySendAs), Certificate: u.Certificate, Created: now(), Changed: now()}
	if u.Password != "" || !u.Certificate {
		if r.Password, r.SCRAM, err = s.newVerifiers(u.Password, name, u.MaySendAs); err != nil {
			return err
		}
	}
	return s.change(func(users *[]record) error { return insert(users, r) })
}

// Free returns nil for a name that a new user may have.
func (s *Store) Free(name string) error {
	n, err := named("user", name)
	if err == nil && s.account(n) != nil {
		err = exists(n)
	}
	return err
}

// Known returns nil for the name of a user.
func (s *Store) Known(name string) error {
	n, err := named("user", name)
	if err == nil && s.account(n) == nil {
		err = unknown(n)
	}
	return err
}

func unknown(name string) error {
	return wrong("there is no user "+strconv.Quote(name), "see them with: postern user list")
}

func exists(name string) error {
	return wrong("user exists: "+strconv.Quote(name), "choose another name, or give it a new password with: postern user passwd "+name)
}

func insert(users *[]record, r record) error {
	if slices.ContainsFunc(*users, func(have record) bool { return have.Name == r.Name }) {
		return exists(r.Name)
	}
	*users = append(*users, r)
	return nil
}

// newVerifiers checks a chosen password and returns what is kept of it.
func (s *Store) newVerifiers(password Secret, name string, senders []string) (hash, keys string, err error) {
	if err := CheckPassword(password, append([]string{name}, senders...)...); err != nil {
		return "", "", err
	}
	c, err := newCredential(password, s.scramRounds())
	if err != nil {
		return "", "", err
	}
	hash, keys = c.texts()
	return hash, keys, nil
}

// SetPassword gives a user a new password, under the same conditions as Add.
// The old one is refused at once, here and within a second in other processes.
func (s *Store) SetPassword(name string, password Secret) error {
	n, err := named("user", name)
	if err != nil {
		return err
	}
	var senders []string
	if a := s.account(n); a != nil {
		senders = a.MaySendAs
	}
	hash, keys, err := s.newVerifiers(password, n, senders)
	if err != nil {
		return err
	}
	return s.edit(n, func(r *record) error { r.Password, r.SCRAM = hash, keys; return nil })
}

// SetSenders replaces what a user may send as. Tokens lose what the user loses.
func (s *Store) SetSenders(name string, list []string) error {
	if err := checkSenders(list); err != nil {
		return wrong("user "+strconv.Quote(name)+": "+err.Error(), "")
	}
	return s.edit(name, func(r *record) error { r.MaySendAs = slices.Clone(list); return nil })
}

// SetCertificate says whether a client certificate that names the user is
// enough to log in.
func (s *Store) SetCertificate(name string, enough bool) error {
	return s.edit(name, func(r *record) error { r.Certificate = enough; return nil })
}

// Disable keeps a user and its tokens from logging in.
func (s *Store) Disable(name string) error {
	return s.edit(name, func(r *record) error { r.Disabled = true; return nil })
}

// Enable undoes Disable.
func (s *Store) Enable(name string) error {
	return s.edit(name, func(r *record) error { r.Disabled = false; return nil })
}

// Remove removes a user with all of its tokens.
func (s *Store) Remove(name string) error {
	n, err := named("user", name)
	if err != nil {
		return err
	}
	return s.change(func(users *[]record) error {
		i := slices.IndexFunc(*users, func(r record) bool { return r.Name == n })
		if i < 0 {
			return unknown(n)
		}
		*users = slices.Delete(*users, i, i+1)
		return nil
	})
}

// AddToken makes a token and returns its secret, which is kept nowhere. It
// logs in as "user/token".
func (s *Store) AddToken(user string, t NewToken) (Secret, error) {
	name, err := named("token", t.Name)
	if err != nil {
		return "", err
	}
	if err := errors.Join(checkRate(t.Rate), checkSenders(t.MaySendAs)); err != nil {
		return "", wrong("token "+strconv.Quote(name)+": "+err.Error(), "")
	}
	secret := newTokenSecret()
	c, err := newCredential(secret, s.scramRounds())
	if err != nil {
		return "", err
	}
	made := tokenRecord{Name: name, MaySendAs: slices.Clone(t.MaySendAs), Rate: t.Rate, Gateway: t.Gateway, Created: now(), Expires: t.Expires}
	made.Password, made.SCRAM = c.texts()
	err = s.edit(user, func(r *record) error {
		if slices.ContainsFunc(r.Tokens, func(have tokenRecord) bool { return have.Name == name }) {
			return wrong("token exists: "+strconv.Quote(join(r.Name, name)), "choose another name, or remove it first; a secret cannot be shown again")
		}
		owned := r.MaySendAs
		if t.Users != nil {
			owned = t.Users
		}
		for _, entry := range made.MaySendAs {
			if !covered(owned, entry) {
				return wrong("token "+strconv.Quote(name)+": "+strconv.Quote(r.Name)+" itself may not send as "+strconv.Quote(entry), "give the token less, or the user more")
			}
		}
		r.Tokens = append(r.Tokens, made)
		return nil
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// RemoveToken removes a token; its secret is refused at once.
func (s *Store) RemoveToken(user, token string) error {
	name, err := named("token", token)
	if err != nil {
		return err
	}
	return s.edit(user, func(r *record) error {
		before := len(r.Tokens)
		r.Tokens = slices.DeleteFunc(r.Tokens, func(t tokenRecord) bool { return t.Name == name })
		if len(r.Tokens) == before {
			return wrong("there is no token "+strconv.Quote(join(r.Name, name)), "see them with: postern user list")
		}
		return nil
	})
}

// upgrade replaces the verifier of an account that was just proven by c,
// unless somebody changed it meanwhile.
func (s *Store) upgrade(proven *account, c credential) error {
	user, token, err := parseIdentity(proven.Identity)
	if err != nil {
		return err
	}
	old := proven.password.String()
	return s.change(func(users *[]record) error {
		for i, r := range *users {
			if r.Name != user {
				continue
			}
			if token == "" && r.Password == old {
				r.Password, r.SCRAM = c.texts()
			}
			r.Tokens = slices.Clone(r.Tokens)
			for j, t := range r.Tokens {
				if t.Name == token && t.Password == old {
					r.Tokens[j].Password, r.Tokens[j].SCRAM = c.texts()
				}
			}
			(*users)[i] = r
		}
		return nil
	})
}
