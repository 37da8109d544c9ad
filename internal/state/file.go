package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"postern/internal/problem"
)

// maxFile bounds what is read into memory.
const maxFile = 1 << 30

// noFollow opens the file itself, never what a link in its place leads to, and
// does not wait for the other end of a pipe.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_CLOEXEC

// ReadFile reads a file of ours that others must not reach: a regular one, of
// mode 0600 or less, that belongs to us or to root.
func ReadFile(path string) ([]byte, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, nil, noLink(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || info.Size() > maxFile:
		return nil, nil, problem.At(problem.Pos{File: path}, fmt.Sprintf("the file has mode %v, and others must not reach it", info.Mode()), "chmod 600 "+path)
	case !ours(info, os.Geteuid()):
		return nil, nil, problem.At(problem.Pos{File: path}, fmt.Sprintf("the file belongs to the user of id %d, who could write what is read here", owner(info)), "look at who put it there, and remove it or give it over: chown")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	return data, info, err
}

// WriteFile writes a file so that after a crash it is the old or the new one,
// whole: a new file, synced, in its place, and the folder synced.
func WriteFile(name string, text []byte) error {
	dir := filepath.Dir(name)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // it is gone when all went well
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock waits until nobody else holds the lock that is a file, made if it is
// missing. Closing what is returned, or the end of the process, lets go.
func Lock(path string) (io.Closer, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	return f, noLink(path, err)
}

// noLink says what a link in the place of a file means.
func noLink(path string, err error) error {
	if errors.Is(err, syscall.ELOOP) {
		return problem.At(problem.Pos{File: path}, "a link stands in the place of the file, and is not followed", "look at who put it there, and remove it")
	}
	return err
}
