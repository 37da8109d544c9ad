package identity

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"postern/internal/problem"
)

// The files in the state folder.
const (
	usersFile   = "users.json"
	lockFile    = "users.lock" // locked while users.json is changed; it never goes away
	lastUseFile = "lastuse.json"
	saltFile    = "login.key" // makes the salts of users that do not exist
)

// maxFile bounds what is read into memory.
const maxFile = 1 << 30

// A stamp tells one state of a file from another. Each write makes a new
// inode, so two states within one tick of the clock differ too.
type stamp struct {
	size     int64
	modified time.Time
	inode    uint64
}

func stampOf(info os.FileInfo) stamp {
	s := stamp{size: info.Size(), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// readSecretFile reads a file that only its owner may read.
func readSecretFile(path string) ([]byte, stamp, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || info.Size() > maxFile {
		return nil, stamp{}, problem.At(problem.Pos{File: path}, fmt.Sprintf("the file has mode %v, and others must not reach it", info.Mode()), "chmod 600 "+path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	return data, stampOf(info), err
}

// replaceFile puts data in the place of a file so that a reader, and a machine
// that loses power, sees the old content or the new and nothing between.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, adopt(f, dir), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	// Without this the rename itself may be lost.
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// adopt gives a file that root made to whom the folder belongs: the relay, which
// is not root, has to read what the command line wrote.
func adopt(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// lock waits until nobody else changes the users, in this process or another.
// The lock ends with the process that holds it.
func lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the users: %w", err)
	}
	if err = adopt(f, dir); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
