// Package state is the state folder: where it is, who holds it, and in which
// version it is written. One process holds it at a time.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern/internal/problem"
)

// Version is that of the folder's layout. A newer one is refused, an older
// one is upgraded by whoever finds it.
const Version = 1

// A Folder is a state folder that this process holds.
type Folder struct {
	Path string
	New  bool // it was made just now
	lock *os.File
}

// A Holder is who holds a folder.
type Holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// HeldError is returned by Open for a folder that another process holds.
type HeldError struct {
	Path   string
	Holder Holder
}

func (e *HeldError) Error() string {
	who := "another process"
	if e.Holder.PID != 0 {
		who = fmt.Sprintf("process %d, since %s", e.Holder.PID, e.Holder.Since.Local().Format("2 Jan 15:04:05"))
	}
	return fmt.Sprintf("%s: the state is held by %s; stop that one, or give this one another folder with --state", e.Path, who)
}

// Default is where state is kept when nobody says: the XDG state folder.
func Default() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "postern"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the state: %w; name one with --state", err)
	}
	return filepath.Join(home, ".local", "state", "postern"), nil
}

// Open makes the folder if it is missing, and holds it until Close. The
// kernel lets go of it when the process dies, however it dies. A folder that
// others could change is refused.
func Open(path string) (*Folder, error) {
	f := &Folder{Path: path}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		f.New = true
	}
	if err := Judge(path, os.Geteuid()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w; make it, or name another with --state", err)
	}
	if err := f.hold(); err != nil {
		return nil, err
	}
	if err := f.version(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Folder) hold() error {
	name := filepath.Join(f.Path, "lock")
	lock, err := openLock(name)
	if err != nil {
		return fmt.Errorf("state folder: %w; it must belong to who runs postern", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return &HeldError{Path: f.Path, Holder: holder(name)}
		}
		return fmt.Errorf("lock %s: %w", name, err)
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Since: time.Now()})
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = lock.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		lock.Close()
		return fmt.Errorf("lock %s: %w", name, err)
	}
	f.lock = lock
	return nil
}

// holder reads who wrote the lock; what cannot be read is nobody.
func holder(name string) Holder {
	var h Holder
	text, _, err := ReadFile(name)
	if err != nil || json.Unmarshal(text, &h) != nil {
		return Holder{}
	}
	return h
}

// HeldBy returns which relay holds a folder, or 0. It takes no lock to find out,
// which would be in the way of one that starts: it asks who wrote the lock, and
// whether that lives.
func HeldBy(folder string) (pid int) {
	h := holder(filepath.Join(folder, "lock"))
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.PID))
	if h.PID == 0 || err != nil || !slices.Contains(strings.Split(string(line), "\x00"), "serve") {
		return 0
	}
	return h.PID
}

func (f *Folder) version() error {
	name := filepath.Join(f.Path, "version")
	text, _, err := ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return WriteFile(name, fmt.Appendf(nil, "%d\n", Version))
	}
	if err != nil {
		return err
	}
	var v int
	if _, err := fmt.Sscanf(string(bytes.TrimSpace(text)), "%d", &v); err != nil {
		return problem.At(problem.Pos{File: name}, "no version of a state folder", "name the folder of a relay with --state, or an empty one")
	}
	if v > Version {
		return problem.At(problem.Pos{File: name}, fmt.Sprintf("the state was written by a newer postern (version %d, this one knows %d)", v, Version), "run that one; nothing was changed")
	}
	return nil
}

// Join returns the path of a file in the folder.
func (f *Folder) Join(name string) string { return filepath.Join(f.Path, name) }

// Close lets go of the folder.
func (f *Folder) Close() error { return f.lock.Close() }
