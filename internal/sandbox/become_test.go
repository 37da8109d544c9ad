package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// In the folder of somebody who is less, root can do what that somebody can.
func TestBecome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir := t.TempDir()
	for at := dir; at != "/tmp" && at != "/"; at = filepath.Dir(at) {
		_ = os.Chmod(at, 0o755) // what is not ours stays as it is
	}
	theirs, victim := filepath.Join(dir, "theirs"), filepath.Join(dir, "victim")
	if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 12345, 54321), os.WriteFile(victim, []byte("secret"), 0o600), os.Symlink(victim, theirs+"/link")); err != nil {
		t.Fatal(err)
	}
	got := again(t, "become "+theirs)
	for name, want := range map[string]string{
		"become": "done", "ids": "0 12345 54321", "read a link to what is root's": "denied", "write there": "done",
		"back": "done", "ids after": "0 0", "read what is root's": "done", "become in a folder of root's": "done", "ids there": "0 0",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	info, err := os.Stat(theirs + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 12345 || s.Gid != 54321 {
		t.Errorf("what was written belongs to %+v", s)
	}
}

func became(theirs string) {
	back, err := Become(theirs)
	tell("become", err)
	fmt.Printf("ids=%d %d %d\n", os.Getuid(), os.Geteuid(), os.Getegid())
	_, err = os.ReadFile(theirs + "/link")
	tell("read a link to what is root's", err)
	tell("write there", os.WriteFile(theirs+"/file", nil, 0o600))
	tell("back", back())
	fmt.Printf("ids after=%d %d\n", os.Geteuid(), os.Getegid())
	_, err = os.ReadFile(filepath.Dir(theirs) + "/victim")
	tell("read what is root's", err)
	_, err = Become(filepath.Dir(theirs))
	tell("become in a folder of root's", err)
	fmt.Printf("ids there=%d %d\n", os.Geteuid(), os.Getegid())
}
