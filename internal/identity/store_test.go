package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/problem"
	"postern/internal/state"
)

const goodPassword = Secret("quiet-otter-banjo-41")

// fewRounds keep the tests quick; what Open makes has scramRounds.
const fewRounds = 4096

func openStore(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	s.rounds = fewRounds
	return s
}

// newStore has a user anna with goodPassword.
func newStore(tb testing.TB) *Store {
	tb.Helper()
	s := openStore(tb, tb.TempDir())
	if err := s.Add(NewUser{Name: "anna", Password: goodPassword, MaySendAs: []string{"anna@example.org", "*@example.com"}}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// written puts a text into the place of users.json as an editor would.
func written(tb testing.TB, s *Store, text string) {
	tb.Helper()
	if err := state.WriteFile(s.path(), []byte(text)); err != nil {
		tb.Fatal(err)
	}
}

func TestChangesSayWhatToDo(t *testing.T) {
	s := newStore(t)
	if _, err := s.AddToken("anna", NewToken{Name: "printer"}); err != nil {
		t.Fatal(err)
	}
	token := func(t NewToken) error { _, err := s.AddToken("anna", t); return err }
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"user exists", s.Add(NewUser{Name: "ANNA", Password: goodPassword}), `user exists: "anna"; choose another name, or give it a new password with: postern user passwd anna`},
		{"a slash", s.Add(NewUser{Name: "a/b", Password: goodPassword}), "choose another name"},
		{"no password", s.Add(NewUser{Name: "bert"}), "fewer than 10"},
		{"a bad password", s.SetPassword("anna", "password123"), "tried first"},
		{"the own address as password", s.SetPassword("anna", "post-for-example.org"), "name or address"},
		{"not an address", s.Add(NewUser{Name: "bert", Password: goodPassword, MaySendAs: []string{"bert"}}), `"bert" is neither`},
		{"not an address either", s.SetSenders("anna", []string{"@x"}), `"@x" is neither`},
		{"no such user", s.SetPassword("bert", goodPassword), `there is no user "bert"; see them with: postern user list`},
		{"to disable", s.Disable("bert"), "there is no user"},
		{"to remove", s.Remove("bert"), "there is no user"},
		{"token exists", token(NewToken{Name: "printer"}), "token exists"},
		{"token with more rights", token(NewToken{Name: "x", MaySendAs: []string{"bert@example.org"}}), `"anna" itself may not send as "bert@example.org"`},
		{"token with a rate", token(NewToken{Name: "x", Rate: "100"}), "no rate"},
		{"no such token", s.RemoveToken("anna", "x"), `there is no token "anna/x"`},
	} {
		var p *problem.Problem
		if !errors.As(c.err, &p) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: got %v, want a problem with %q", c.name, c.err, c.want)
		}
	}
	if users := s.List(); len(users) != 1 || len(users[0].Tokens) != 1 {
		t.Errorf("what was refused left %+v", users)
	}
}

func TestLookupAndList(t *testing.T) {
	s := newStore(t)
	secret, err := s.AddToken("Anna", NewToken{Name: "Printer", MaySendAs: []string{"scan@example.com"}, Rate: "10/h"})
	if err != nil {
		t.Fatal(err)
	}
	if len(secret) < 26 {
		t.Errorf("the token's secret has %d characters", len(secret))
	}
	if _, err := s.AddToken("anna", NewToken{Name: "old", Expires: time.Now().Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	look := func(identity, want string) {
		t.Helper()
		a, ok := s.Lookup(identity)
		if got := fmt.Sprintf("%s %s %v %s", a.Identity, a.User, a.MaySendAs, a.Rate); ok && got != want || ok != (want != "") {
			t.Errorf("Lookup(%q) = %s, %v; want %q", identity, got, ok, want)
		}
	}
	look("ANNA", "anna anna [anna@example.org *@example.com] ")
	look("anna/PRINTER", "anna/printer anna [scan@example.com] 10/h")
	look("anna/old", "")
	look("anna/", "")
	look("bert", "")
	if err := s.SetSenders("anna", []string{"anna@example.org"}); err != nil {
		t.Fatal(err)
	}
	look("anna/printer", "anna/printer anna [scan@example.com] 10/h") // package serve holds it to what the user has
	if err := s.Disable("anna"); err != nil {
		t.Fatal(err)
	}
	look("anna", "")
	look("anna/printer", "")
	if err := errors.Join(s.Enable("anna"), s.RemoveToken("anna", "old"), s.SetCertificate("anna", true)); err != nil {
		t.Fatal(err)
	}
	u := s.List()[0]
	if u.Name != "anna" || u.Password != "argon2id" || u.SCRAM == 0 || !u.Certificate || u.Disabled || len(u.Tokens) != 1 || u.Created.IsZero() || u.Changed.IsZero() {
		t.Errorf("List() = %+v", u)
	}
	if err := s.Remove("ANNA"); err != nil {
		t.Fatal(err)
	}
	look("anna", "")
}

func TestAnotherProcessChangesUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := newStore(t)
		command := openStore(t, relay.dir)
		if err := command.Disable("anna"); err != nil {
			t.Fatal(err)
		}
		if _, ok := relay.Lookup("anna"); !ok {
			t.Error("the file was looked at twice within a second")
		}
		time.Sleep(lookAgain)
		if _, ok := relay.Lookup("anna"); ok {
			t.Error("after a second anna is still not disabled")
		}
		if err := errors.Join(command.Enable("anna"), relay.Reload()); err != nil {
			t.Fatal(err)
		}
		if _, ok := relay.Lookup("anna"); !ok {
			t.Error("Reload did not read")
		}
	})
}

func TestBadFileLeavesTheOldUsersInForce(t *testing.T) {
	s := newStore(t)
	good, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		damage func()
		want   string
	}{
		{"a line is damaged", func() { written(t, s, strings.Replace(string(good), "may_send_as", "may_send", 1)) }, `users.json:2: not a user: unknown field "may_send"`},
		{"half of it is lost", func() { written(t, s, string(good[:len(good)/2])) }, "users.json:2: not a user"},
		{"it is empty", func() { written(t, s, "") }, "users.json:1: not a list"},
		{"it is gone", func() { _ = os.Remove(s.path()) }, "users.json: the file is gone"},
		{"others can read it", func() { written(t, s, string(good)); _ = os.Chmod(s.path(), 0o644) }, "chmod 600"},
	} {
		c.damage()
		for range 2 { // the fault stays until it is mended
			if err := s.Reload(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.want)
			}
		}
		if _, ok := s.Lookup("anna"); !ok {
			t.Errorf("%s: anna is locked out", c.name)
		}
		if c.name != "it is gone" { // nobody writes over what could not be read
			if err := s.Disable("anna"); err == nil {
				t.Errorf("%s: a change went over the damage", c.name)
			}
		}
		written(t, s, string(good))
		if err := s.Reload(); err != nil {
			t.Errorf("%s: mended, and still %v", c.name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, usersFile), []byte(`{"postern_users":1,"users":[]}`), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that the group can read: %v", err)
	}
	if _, err := Open(filepath.Join(dir, usersFile)); err == nil {
		t.Error("a file in the place of the folder was taken")
	}
}

func TestFilesAreTheOwners(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "state"))
	if err := s.Add(NewUser{Name: "anna", Password: goodPassword}); err != nil {
		t.Fatal(err)
	}
	s.use("anna", time.Now())
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "lastuse.json login.key users.json users.lock" {
		t.Errorf("the folder holds %s", got)
	}
	if info, err := os.Stat(s.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

// Whoever owns the folder could put anything into it: root does not work there.
func TestRootDoesNotWorkInTheFolderOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := newStore(t)
	if err := os.Chown(s.dir, 12345, 54321); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.dir); err == nil || !strings.Contains(err.Error(), "belongs to the user of id 12345") {
		t.Errorf("Open = %v", err)
	}
}

// What a link leads to is neither read nor written, nor given away.
func TestLinksInTheFolder(t *testing.T) {
	for _, name := range []string{usersFile, lockFile, lastUseFile, saltFile} {
		s := newStore(t)
		victim := filepath.Join(t.TempDir(), "victim")
		if err := errors.Join(os.WriteFile(victim, []byte("its own"), 0o600), os.Remove(filepath.Join(s.dir, name)), os.Symlink(victim, filepath.Join(s.dir, name))); err != nil && name != lastUseFile {
			t.Fatal(err)
		}
		again, err := Open(s.dir)
		switch {
		case name == lastUseFile && err == nil: // worth telling, not worth a refusal
			again.use("anna", time.Now())
			err = again.Flush()
		case name != lastUseFile && (err == nil || !strings.Contains(err.Error(), "a link stands in the place")):
			t.Errorf("%s: Open = %v", name, err)
		}
		text, readErr := os.ReadFile(victim)
		if readErr != nil || string(text) != "its own" || name == lastUseFile && err != nil {
			t.Errorf("%s: the victim is %q, %v, %v", name, text, readErr, err)
		}
	}
}

func TestManyChangeAtOnce(t *testing.T) {
	s := newStore(t)
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		other := openStore(t, s.dir) // its own file descriptors, as another process has
		wg.Go(func() {
			for i := range each {
				if err := other.Add(NewUser{Name: fmt.Sprintf("cert-%d-%d", w, i), Certificate: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.List()); n != 1+writers*each {
		t.Errorf("%d users, want %d: a change was lost", n, 1+writers*each)
	}
}

func TestRunTellsOnceAndWritesLastUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		good, err := os.ReadFile(s.path())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		done := make(chan error)
		go func() { done <- s.Run(ctx, func(err error) { told = append(told, text(err)) }) }()
		s.use("anna", time.Now())
		s.use("gone", time.Now())
		time.Sleep(time.Minute + time.Millisecond)
		synctest.Wait()
		written(t, s, "")
		time.Sleep(10 * time.Second)
		written(t, s, string(good))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(told) != 2 || !strings.Contains(told[0], "not a list") || told[1] != "" {
			t.Errorf("told %q, want the fault and its end, once each", told)
		}
		if got := openStore(t, s.dir).List()[0].LastUse; got.IsZero() {
			t.Error("the last use was not written after a minute")
		}
		later := time.Now().UTC().Truncate(time.Second)
		s.use("anna", later)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		again := openStore(t, s.dir)
		if got := again.List()[0].LastUse; !got.Equal(later) {
			t.Errorf("last use %v, want %v of just before the end", got, later)
		}
		if _, ok := again.lastUse["gone"]; ok {
			t.Error("the use of somebody who does not exist was kept")
		}
	})
}

func TestDamagedLastUsesStopNothing(t *testing.T) {
	s := newStore(t)
	for _, text := range []string{"", "null", "[1]", "{", `{"anna":"yesterday"}`} {
		if err := state.WriteFile(filepath.Join(s.dir, lastUseFile), []byte(text)); err != nil {
			t.Fatal(err)
		}
		again := openStore(t, s.dir)
		again.use("anna", time.Now())
		if err := again.Flush(); err != nil || again.List()[0].LastUse.IsZero() {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A network that an identity has used is known after a restart too, for a month.
func TestFamiliarNetworksOutliveTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		l, _ := newLogin(Options{Store: s})
		login := func(l *Login, c Client) {
			t.Helper()
			if r := l.Authenticate(t.Context(), c, "PLAIN", []byte("\x00anna\x00"+string(goodPassword)), says()); r.Identity != "anna" {
				t.Fatal(r.Reply)
			}
		}
		home, gateway := overTLS, overTLS
		home.Addr, gateway.Addr, gateway.Shared = addr("198.51.100.7"), addr("172.17.0.1"), true
		login(l, home)
		login(l, gateway)
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		again := openStore(t, s.dir)
		for _, c := range []struct {
			from  string
			after time.Duration
			want  bool
		}{
			{"198.51.100.200", 0, true},
			{"198.51.101.7", 0, false},
			{"172.17.0.1", 0, false}, // everybody's
			{"198.51.100.7", familiarFor - time.Second, true},
			{"198.51.100.7", time.Second, false},
		} {
			time.Sleep(c.after)
			if got := again.knows("anna", network(addr(c.from))); got != c.want {
				t.Errorf("%s: %v, want %v", c.from, got, c.want)
			}
		}
		for i := range 2 * familiarLimit {
			again.meet("anna", network(addr(ipv4(i))))
			time.Sleep(time.Second)
		}
		if n := len(again.familiar["anna"]); n != familiarLimit || !again.knows("anna", network(addr(ipv4(2*familiarLimit-1)))) {
			t.Errorf("%d networks are known, want %d, the youngest among them", n, familiarLimit)
		}
	})
}
