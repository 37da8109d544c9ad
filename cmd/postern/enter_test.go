package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Everything that root does with a state folder is done as its owner: whatever
// the owner put there, a file of root's keeps its owner, mode and text, and the
// text is not told.
func TestRootInTheFolderOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can do what its owner cannot")
	}
	const owner, secret = 12345, "the-secret-of-root"
	for _, command := range []string{
		"user add anna --generate", "user add anna --certificate", "user passwd anna --generate", "user disable anna", "user list", "user token anna shop", "user import IN",
		"explain --from 192.0.2.1 --mail-from a@far.example --rcpt b@elsewhere.example", "prove", "trace ID", "queue list", "queue verify", "queue verify STATE", "queue restore IN --yes", "queue backup OUT", "reload", "top --once",
	} {
		t.Run(command, func(t *testing.T) {
			dir := passable(t)
			folder, victim, in := filepath.Join(dir, "state"), filepath.Join(dir, "victim"), filepath.Join(dir, "in")
			err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(victim, []byte(secret), 0o600), os.WriteFile(in, nil, 0o600))
			for _, name := range []string{"users.lock", "users.json", "lastuse.json", "login.key", "familiar.json", "lock", "version", "control", "queue", "suspended.json", "tunnels", "wall.json"} {
				err = errors.Join(err, os.Symlink(victim, filepath.Join(folder, name)), os.Lchown(filepath.Join(folder, name), owner, owner))
			}
			if err = errors.Join(err, os.Chown(folder, owner, owner)); err != nil {
				t.Fatal(err)
			}
			args := strings.Fields(strings.NewReplacer("STATE", folder, "IN", in, "OUT", filepath.Join(dir, "out")).Replace(command))
			out, _ := exec.CommandContext(t.Context(), "postern", append(args, "--state", folder)...).CombinedOutput() // most are refused
			info, err := os.Lstat(victim)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(victim)
			if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 0 || info.Mode() != 0o600 || string(text) != secret || err != nil {
				t.Errorf("the victim is %v of %+v: %q, %v", info.Mode(), s, text, err)
			}
			if strings.Contains(string(out), secret) {
				t.Errorf("its text was told: %s", out)
			}
		})
	}
}

// What root makes in the folder of another belongs to that other, who has to
// read it; what root alone can read comes in, and what is copied out is root's.
func TestWhatRootMakesBelongsToTheFoldersOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can do what its owner cannot")
	}
	dir := passable(t)
	const owner = 12345
	state := filepath.Join(dir, "state")
	if err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, owner, owner), os.WriteFile(filepath.Join(dir, "in"), []byte("carl:{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuuybsCztZfJOSZan2UlBYbagc6NblpkYe\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	written := filepath.Join(dir, "postern.hcl") // root's alone
	if err := os.WriteFile(written, []byte(runningConfig+"user \"anna\" { may_send_as = [\"anna@example.org\"] }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"user add anna --generate", "user list --config " + written, "user token anna shop --may-send-as anna@example.org --config " + written, "prove --config " + written, "user import " + filepath.Join(dir, "in"), "user disable anna"} {
		if out, err := exec.CommandContext(t.Context(), "postern", append(strings.Fields(command), "--state", state)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		} else if strings.HasPrefix(command, "user list") && !strings.Contains(string(out), "postern.hcl:10:1") {
			t.Errorf("%s: %s", command, out)
		}
	}
	list, err := os.ReadDir(state)
	if err != nil || len(list) < 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != owner || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v of %s", e.Name(), info.Mode(), strconv.Itoa(int(s.Uid)))
		}
	}
}

// A state folder that is missing is made by root in root's folders alone. In
// somebody else's it is made by that one, so that a link there leads root
// nowhere; in one that others may write it is not made.
func TestStateFoldersThatAreMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	const owner = 12345
	dir := passable(t)
	theirs, open := filepath.Join(dir, "theirs"), filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.Chown(theirs, owner, owner), os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		byRoot     bool
		uid        uint32 // whose it is then
		refused    bool
	}{
		{"in root's", filepath.Join(dir, "a"), true, 0, false},
		{"below what is missing too", filepath.Join(dir, "b", "c", "d"), true, 0, false},
		{"in somebody's", filepath.Join(theirs, "a"), false, owner, false},
		{"in somebody's, below what is missing too", filepath.Join(theirs, "b", "c"), false, owner, false},
		{"where others may write", filepath.Join(open, "x", "y"), false, 0, true},
	} {
		byRoot := false
		err := found(c.path, func(path string) error { byRoot = true; return os.MkdirAll(path, 0o700) })
		if byRoot != c.byRoot || (err != nil) != c.refused {
			t.Errorf("%s: by root %v, %v", c.name, byRoot, err)
			continue
		}
		if c.refused {
			continue
		}
		info, err := os.Stat(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != c.uid {
			t.Errorf("%s: it belongs to %d, want %d", c.name, s.Uid, c.uid)
		}
	}
}

// passable is a folder of root's that others can pass through.
func passable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-enter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
