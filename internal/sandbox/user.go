package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
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
// is never changed of what was there: a link would lead elsewhere.
func (u User) Own(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return u.makeFolder(dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // it was only read
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		info, statErr := root.Lstat(name)
		switch {
		case errors.Is(statErr, fs.ErrNotExist):
			return nil
		case err != nil || statErr != nil:
			return errors.Join(err, statErr)
		}
		err = u.owns(filepath.Join(dir, name), info)
		if err != nil && name != "." {
			err = fmt.Errorf("%w (all of %s must be its)", err, dir)
		}
		return err
	})
}

// makeFolder makes a folder and gives it to the user. It is given by the
// descriptor of what was made, and not by a name that somebody could move.
func (u User) makeFolder(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%s was replaced while it was made; look at who may write %s", dir, filepath.Dir(dir))
	}
	return f.Chown(u.uid, u.gid)
}

func (u User) owns(path string, info os.FileInfo) error {
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != u.uid {
		return fmt.Errorf("%s belongs to the user of id %d, and not to %s; give it over: chown -R %s: %s", path, s.Uid, u.Name, u.Name, path)
	}
	return nil
}

// Become makes this process act as the owner of a folder until back is called:
// what root does in the folder of somebody who is less, that somebody turns
// against root, by a link in the right place. Without root, and for a folder of
// root's or one that is missing, nothing changes. Only what is not secret from
// the owner may be opened meanwhile.
func Become(dir string) (back func() error, err error) {
	stays := func() error { return nil }
	if os.Geteuid() != 0 {
		return stays, nil
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return stays, nil
	}
	if err != nil {
		return stays, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return stays, nil
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return stays, os.NewSyscallError("getgroups", err)
	}
	gid, theirs := syscall.Getegid(), int(owner.Gid)
	if found, err := user.LookupId(strconv.Itoa(int(owner.Uid))); err == nil {
		if n, err := strconv.Atoi(found.Gid); err == nil {
			theirs = n // the folder's own group may be root's
		}
	}
	// The real user stays root, whom the owner can neither trace nor signal.
	back = func() error {
		return errors.Join(os.NewSyscallError("setresuid", syscall.Setresuid(-1, 0, -1)), os.NewSyscallError("setresgid", syscall.Setresgid(-1, gid, -1)), os.NewSyscallError("setgroups", syscall.Setgroups(groups)))
	}
	err = errors.Join(os.NewSyscallError("setgroups", syscall.Setgroups(nil)), os.NewSyscallError("setresgid", syscall.Setresgid(-1, theirs, -1)))
	if err == nil {
		err = os.NewSyscallError("setresuid", syscall.Setresuid(-1, int(owner.Uid), -1))
	}
	if err != nil {
		return stays, errors.Join(fmt.Errorf("act as the owner of %s: %w", dir, err), back())
	}
	return back, nil
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
