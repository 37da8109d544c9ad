package state

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"postern/internal/problem"
)

// Secret says who besides its owner and its group reaches a file that holds a
// secret: others who may write it stop the relay, those who may read it are
// warned of. at is where the file is named. A link counts as what it leads to,
// and one that cannot be looked at is for whoever reads it to complain of.
func Secret(path string, at problem.Pos) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil //nolint:nilerr // said by whoever reads it
	}
	mode := info.Mode().Perm()
	switch {
	case mode&0o002 != 0:
		return problem.At(at, fmt.Sprintf("%s holds a secret, and whoever has a login on this machine may write it (mode %04o)", path, mode), "chmod o-rwx "+path)
	case mode&0o004 != 0:
		return problem.Warn(at, fmt.Sprintf("%s holds a secret, and whoever has a login on this machine may read it (mode %04o)", path, mode), "chmod o-rwx "+path)
	case mode&0o020 != 0 && !private(info):
		return problem.Warn(at, fmt.Sprintf("%s holds a secret, and its group may write it (mode %04o)", path, mode), "chmod g-w "+path)
	}
	return nil
}

// A Reader is the user whom a relay goes on as, by numbers.
type Reader struct {
	User   int
	Groups []int
}

// Owner returns the user to whom a state folder belongs, which is the one whom
// a relay goes on as there.
func Owner(dir string) (id int, ok bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	id = owner(info)
	return id, id >= 0
}

// Reads says why a user cannot read a file, by the modes of the file and of the
// folders above it; nil where nothing is known against it. Access lists are not
// looked at.
func (r Reader) Reads(path string) error {
	whole, err := filepath.Abs(path)
	if err == nil {
		whole, err = filepath.EvalSymlinks(whole)
	}
	if err != nil {
		return err
	}
	at := "/"
	for part := range strings.SplitSeq(strings.Trim(filepath.Dir(whole), "/"), "/") {
		if at = filepath.Join(at, part); !r.may(at, 0o1) {
			return &fs.PathError{Op: "enter", Path: at, Err: syscall.EACCES}
		}
	}
	if !r.may(whole, 0o4) {
		return &fs.PathError{Op: "read", Path: whole, Err: syscall.EACCES}
	}
	return nil
}

// may asks the mode of one file as the kernel does: the first of owner, group
// and others that the user is decides.
func (r Reader) may(path string, want fs.FileMode) bool {
	info, err := os.Stat(path)
	s, ok := stat(info)
	if err != nil || !ok || r.User == 0 {
		return true // nothing is known against it
	}
	mode := info.Mode().Perm()
	switch {
	case int(s.Uid) == r.User:
		mode >>= 6
	case r.in(int(s.Gid)):
		mode >>= 3
	}
	return mode&want == want
}

func (r Reader) in(group int) bool {
	for _, g := range r.Groups {
		if g == group {
			return true
		}
	}
	return false
}

func stat(info os.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return s, ok
}
