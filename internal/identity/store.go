package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/internal/problem"
	"postern/internal/state"
)

// A Store keeps the users of one state folder in users.json. Several
// processes may have it open: each change is made under a lock, on what the
// file holds then, and the others see it within a second. It is safe for
// concurrent use.
type Store struct {
	dir  string
	salt []byte // of the salts of nobody, RFC 5802 section 5.1

	mu       sync.Mutex
	rounds   int // of the SCRAM keys that are made; 0: none are
	book     *book
	seen     stamp
	looked   time.Time // when the file was last looked at
	fault    error     // why the file of now is not in force
	lastUse  map[string]time.Time
	used     bool // lastUse has what its file has not
	familiar familiars
	met      bool // familiar has what its file has not
}

// lookAgain is how old what we know of the file may be.
const lookAgain = time.Second

// Open opens the users of a state folder and makes the folder if there is none.
// A folder that others could change is refused.
func Open(dir string) (*Store, error) {
	if err := state.Safe(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, problem.At(problem.Pos{File: dir}, "the state folder cannot be made: "+err.Error(), "make it, and let it belong to the user that postern runs as")
	}
	s := &Store{dir: dir, rounds: scramRounds, book: &book{}, lastUse: readLastUse(filepath.Join(dir, lastUseFile)), familiar: readFamiliar(filepath.Join(dir, familiarFile))}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, s.readSalt()
}

// readSalt reads the key that salts of nobody are made with, and makes it the
// first time. It has to outlive the process: a salt that changes betrays that
// there is no user behind it.
func (s *Store) readSalt() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(s.dir, saltFile)
	key, _, err := state.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.salt = random(32)
		return state.WriteFile(path, s.salt)
	case err != nil:
		return err
	case len(key) != 32:
		return problem.At(problem.Pos{File: path}, "not the key that was written here", "remove it; a new one will be made")
	}
	s.salt = key
	return nil
}

// Methods tells the store which login methods are switched on, empty for all:
// without SCRAM no keys of it are made, and those that are there go at the next
// login.
func (s *Store) Methods(list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch on := len(list) == 0 || slices.ContainsFunc(list, func(name string) bool { return strings.HasPrefix(strings.ToUpper(name), "SCRAM-") }); {
	case !on:
		s.rounds = 0
	case s.rounds == 0:
		s.rounds = scramRounds
	}
}

// scramRounds are those of the SCRAM keys that are made now; 0: none are made.
func (s *Store) scramRounds() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rounds
}

// roundsLike returns the rounds that somebody who does not exist has: those of
// a part of the users, so that the rounds do not tell who exists while some
// users' keys are of before. As keys are made anew, each nobody changes once.
func (s *Store) roundsLike(chance uint64) int {
	rounds := s.current().rounds
	if len(rounds) == 0 {
		return max(s.scramRounds(), 4096)
	}
	nth, _ := bits.Mul64(chance, uint64(len(rounds)))
	return rounds[nth]
}

// lock waits until nobody else changes the users, in this process or another.
func (s *Store) lock() (unlock func(), err error) {
	l, err := state.Lock(filepath.Join(s.dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("lock the users: %w", err)
	}
	return func() { _ = l.Close() }, nil // closing what was not written to
}

func (s *Store) path() string { return filepath.Join(s.dir, usersFile) }

// read returns what the file holds now; without a file there are no users.
func (s *Store) read() (*book, stamp, error) {
	data, info, err := state.ReadFile(s.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &book{}, stamp{}, nil
	case err != nil:
		return nil, stamp{}, err
	}
	b, err := readBook(s.path(), data)
	return b, stampOf(info), err
}

// Reload reads the file if it changed. On an error, which is returned until
// the file is mended, the users that were read before stay in force.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload(time.Now())
	return s.fault
}

// reload is called with the mutex held.
func (s *Store) reload(now time.Time) {
	s.looked = now
	var at stamp
	info, err := os.Lstat(s.path())
	switch {
	case err == nil:
		at = stampOf(info)
	case !errors.Is(err, fs.ErrNotExist):
		s.fault = problem.At(problem.Pos{File: s.path()}, "the users cannot be read: "+err.Error(), "let the file belong to the user that postern runs as")
		return
	case len(s.book.users) > 0:
		// Nobody removes all users in this way on purpose.
		s.fault = problem.At(problem.Pos{File: s.path()}, "the file is gone", "put it back; until then the users that were read before stay in force")
		return
	}
	if at == s.seen && s.fault == nil {
		return
	}
	b, at, err := s.read()
	if s.fault = err; err == nil {
		s.book, s.seen = b, at
	}
}

// current returns the users as of at most a second ago.
func (s *Store) current() *book {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.looked) >= lookAgain {
		s.reload(now)
	}
	return s.book
}

// account returns the account of an identity in its normal form, or nil.
func (s *Store) account(identity string) *account { return s.current().accounts[identity] }

// shown returns a name as logs and lists show it: that of an account, or else a
// part of what was typed. It may be a password that went into the wrong field.
func (s *Store) shown(name string) string {
	if user, token, err := parseIdentity(name); name == "" || err == nil && s.account(join(user, token)) != nil {
		return name
	}
	if r := []rune(name); len(r) > 4 {
		return string(r[:2]) + "..."
	}
	return "..."
}

// Lookup returns an identity that may log in now, whatever its name's case.
func (s *Store) Lookup(identity string) (Account, bool) {
	user, token, err := parseIdentity(identity)
	if err != nil {
		return Account{}, false
	}
	a := s.account(join(user, token))
	if !a.usable(time.Now()) {
		return Account{}, false
	}
	return a.Account, true
}

// List returns all users by name.
func (s *Store) List() []User {
	b := s.current()
	s.mu.Lock()
	defer s.mu.Unlock()
	users := make([]User, 0, len(b.users))
	for _, r := range b.users {
		u := User{
			Name: r.Name, MaySendAs: r.MaySendAs, Password: schemeOf(r.Password), SCRAM: roundsOf(b.accounts[r.Name]), Certificate: r.Certificate,
			Disabled: r.Disabled, Created: r.Created, Changed: r.Changed, LastUse: s.lastUse[r.Name],
		}
		for _, t := range r.Tokens {
			u.Tokens = append(u.Tokens, Token{t.Name, t.MaySendAs, t.Rate, t.Gateway, t.Created, t.Expires, s.lastUse[join(r.Name, t.Name)]})
		}
		users = append(users, u)
	}
	return users
}

func roundsOf(a *account) int {
	if a == nil || a.keys == nil {
		return 0
	}
	return a.keys.iterations
}

// schemeOf names the scheme of a verifier in small letters.
func schemeOf(verifier string) string {
	for _, scheme := range schemes {
		if strings.HasPrefix(verifier, scheme.prefix) {
			return strings.ToLower(scheme.name)
		}
	}
	return ""
}

// Run watches the file and writes down last uses until ctx ends. report is
// told when the file stops being readable, with nil when it is so again; the
// same is not told twice. It returns what the last write says.
func (s *Store) Run(ctx context.Context, report func(error)) error {
	look, flush := time.NewTicker(lookAgain), time.NewTicker(time.Minute)
	defer look.Stop()
	defer flush.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return s.Flush()
		case <-look.C:
			if err := s.Reload(); text(err) != told {
				told = text(err)
				report(err)
			}
		case <-flush.C:
			if err := s.Flush(); err != nil {
				report(err)
			}
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
