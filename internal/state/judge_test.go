package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of a folder that others own or may write, nothing is read: they could have
// put there a user who may send as anybody.
func TestFoldersOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const other, we = 65534, 12345
	for _, c := range []struct {
		name string
		do   func(dir string) error
		want string // "" for nothing
	}{
		{"as it was made", func(string) error { return nil }, ""},
		{"a file of root's", func(dir string) error { return os.WriteFile(dir+"/extra", nil, 0o600) }, ""},
		{"a file that others read", func(dir string) error { return os.Chmod(dir+"/version", 0o644) }, ""},
		{"the folder is another's", func(dir string) error { return os.Chown(dir, other, other) }, "state: it belongs to the user of id 65534"},
		{"others may write the folder", func(dir string) error { return os.Chmod(dir, 0o777) }, "state: others may write it (mode 0777)"},
		{"its group may", func(dir string) error { return os.Chmod(dir, 0o770) }, "state: others may write it (mode 0770)"},
		{"a file is another's", func(dir string) error { return os.Chown(dir+"/version", other, -1) }, "state/version: it belongs to the user of id 65534"},
		{"a file that others may write", func(dir string) error { return os.Chmod(dir+"/version", 0o622) }, "state/version: others may write it (mode 0622)"},
		{"a link of another's", func(dir string) error {
			return errors.Join(os.Symlink("/etc/hosts", dir+"/users.lock"), os.Lchown(dir+"/users.lock", other, other))
		}, "state/users.lock: it belongs to the user of id 65534"},
		{"a file deep in it is another's", func(dir string) error { return os.Chown(dir+"/queue/deep/000001.log", other, other) }, "state/queue/deep/000001.log: it belongs to"},
		{"a folder in it that others may write", func(dir string) error { return os.Chmod(dir+"/queue", 0o777) }, "state/queue: others may write it"},
		{"the folder above is everybody's", func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o777) }, "others may write it (mode 0777), and could put another folder in the place of"},
		{"the folder above is a group's", func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o775) }, "others may write it (mode 0775), and could put"},
		{"the folder above is as /tmp is", func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o777|os.ModeSticky) }, ""},
		{"the folder above is another's", func(dir string) error { return os.Chown(filepath.Dir(dir), other, other) }, "who could put another folder in the place of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := os.MkdirAll(dir+"/queue/deep", 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"version", "queue/deep/000001.log"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte("1\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(dir, we, we); err != nil {
				t.Fatal(err)
			}
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			if err := Judge(dir, we); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := Open(dir); err == nil {
				t.Error("root opened the folder of another")
			}
		})
	}
}

// A folder whose way leads through a link is reached by every folder of it.
func TestFoldersAbove(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"real/deep", "ways"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../real", dir+"/ways/link"); err != nil {
		t.Fatal(err)
	}
	above, err := foldersAbove(dir + "/ways/link/deep/state")
	got := strings.ReplaceAll(strings.Join(above, " "), dir, "D")
	if want := "D D/ways D/real D/real/deep"; err != nil || !strings.HasSuffix(got, want) {
		t.Errorf("got %s, %v; want %s at its end", got, err, want)
	}
	if err := os.Chmod(dir+"/ways", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Safe(dir + "/ways/link/deep/state"); err == nil || !strings.Contains(err.Error(), "/ways: others may write it") {
		t.Errorf("a link that others could replace: %v", err)
	}
}

// Nothing is read or locked through a link, and nothing waits for a pipe.
func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadFile(link); err == nil || !strings.Contains(err.Error(), "a link stands in the place") {
		t.Errorf("ReadFile of a link: %v", err)
	}
	if _, err := Lock(link); err == nil || !strings.Contains(err.Error(), "a link stands in the place") {
		t.Errorf("Lock of a link: %v", err)
	}
	if err := WriteFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "secret" {
		t.Errorf("what the link led to is %q, %v", text, err)
	}
}
