package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// A User is who a process that was started as root goes on as.
type User struct {
	Name     string
	uid, gid int
	groups   []int
}

// NoUserError is returned for a name that this machine does not know.
type NoUserError struct{ Name string }

func (e *NoUserError) Error() string {
	return fmt.Sprintf("there is no user %q on this machine; make it: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin %s", e.Name, e.Name)
}

// FindUser returns the user of a name.
func FindUser(name string) (User, error) {
	found, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		return User{}, &NoUserError{name}
	}
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", name, err)
	}
	u := User{Name: found.Username}
	groups, err := found.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("groups of user %q: %w", name, err)
	}
	for _, n := range append([]string{found.Uid, found.Gid}, groups...) {
		id, err := strconv.Atoi(n)
		if err != nil {
			return User{}, fmt.Errorf("user %q has the id %q, which is no number", name, n)
		}
		u.groups = append(u.groups, id)
	}
	u.uid, u.gid, u.groups = u.groups[0], u.groups[1], u.groups[2:]
	return u, nil
}

// Root reports whether the user is root, as whom nothing is dropped.
func (u User) Root() bool { return u.uid == 0 }

// Own makes a folder that will be the user's: a new one is given to it, and
// one that is there must be its already, with all that lies in it. Ownership
// is never changed below a folder: a link there would lead elsewhere.
func (u User) Own(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return os.Lchown(dir, u.uid, u.gid)
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := u.owns(dir, info); err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := u.owns(filepath.Join(dir, e.Name()), info); err != nil {
			return fmt.Errorf("%w (all of %s must be its)", err, dir)
		}
	}
	return nil
}

func (u User) owns(path string, info os.FileInfo) error {
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != u.uid {
		return fmt.Errorf("%s belongs to the user of id %d, and not to %s; give it over: chown -R %s: %s", path, s.Uid, u.Name, u.Name, path)
	}
	return nil
}

// Drop makes this process, all of its threads, one of the user's, for good.
func (u User) Drop() error {
	syscall.Umask(0o077)
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"setgroups", func() error { return syscall.Setgroups(u.groups) }},
		{"setgid", func() error { return syscall.Setresgid(u.gid, u.gid, u.gid) }},
		{"setuid", func() error { return syscall.Setresuid(u.uid, u.uid, u.uid) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("go on as user %s: %w; start as root, or as that user at once", u.Name, os.NewSyscallError(step.what, err))
		}
	}
	if u.Root() {
		return nil
	}
	// What could be taken back was not given away.
	if err := syscall.Setuid(0); err == nil {
		return fmt.Errorf("user %s can become root again; start without the capability CAP_SETUID", u.Name)
	}
	return nil
}
