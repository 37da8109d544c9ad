package state

import (
	"os"
	"path/filepath"
	"testing"

	"postern/internal/problem"
)

func TestSecretsOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	for _, c := range []struct {
		mode          os.FileMode
		stops, warned bool
	}{
		{0o600, false, false},
		{0o400, false, false},
		{0o640, false, false}, // a group that was made for it
		{0o644, false, true},
		{0o604, false, true},
		{0o666, true, false},
		{0o602, true, false},
	} {
		if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		stops, warned := problem.Split(Secret(path, problem.Pos{File: "postern.hcl", Line: 3}))
		if (stops != nil) != c.stops || (warned != nil) != c.warned {
			t.Errorf("mode %04o: stops %v, warned %v; want %v, %v", c.mode, stops, warned, c.stops, c.warned)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := Secret(path, problem.Pos{}); err != nil {
		t.Errorf("a file that is not there: %v, want nothing", err)
	}
}

// What a user may read is told by modes alone, so that root can ask for another.
func TestWhatAUserReads(t *testing.T) {
	dir := t.TempDir()
	id, ok := Owner(dir)
	if !ok {
		t.Fatal("the folder has no owner")
	}
	folder, file, link := filepath.Join(dir, "private"), filepath.Join(dir, "private", "key.pem"), filepath.Join(dir, "live.pem")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for at := filepath.Dir(dir); at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		_ = os.Chmod(at, 0o755)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	other := Reader{User: id + 4711, Groups: []int{os.Getgid()}}
	for _, c := range []struct {
		who          Reader
		folder, file os.FileMode
		reads        bool
	}{
		{other, 0o755, 0o600, false},
		{other, 0o755, 0o640, true},  // by its group
		{other, 0o755, 0o604, false}, // its group decides, not others
		{other, 0o700, 0o644, false}, // it cannot enter the folder
		{other, 0o710, 0o640, true},
		{Reader{User: id + 4711}, 0o755, 0o644, true},
		{Reader{User: id + 4711}, 0o755, 0o640, false},
		{Reader{User: id}, 0o700, 0o600, true},
	} {
		if err := os.Chmod(file, c.file); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(folder, c.folder); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, link} {
			if err := c.who.Reads(path); (err == nil) != c.reads {
				t.Errorf("%+v, folder %04o, file %04o: %v, want it to read: %v", c.who, c.folder, c.file, err, c.reads)
			}
		}
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
