package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"postern/internal/sandbox"
	"postern/internal/state"
)

// enter returns the state folder's path, with this process acting as the
// folder's owner until back is called: root works in nobody else's folder. What
// root alone can read, such as the configuration, is to be read before, or
// after back.
func (p *place) enter() (path string, back func() error, err error) {
	if path, err = p.folder(); err != nil {
		return "", nil, err
	}
	if back, err = become(path); err != nil {
		return "", nil, err
	}
	p.state = path // the owner may not be able to read where that was written
	return path, back, nil
}

// become acts as the owner of a folder of state or of a backup. Who the owner
// is must not be for others to say, who could name root's or anybody's folder.
func become(path string) (back func() error, err error) {
	if os.Geteuid() == 0 {
		if err := state.Placed(path); err != nil {
			return nil, &exit{code: exitIO, err: err}
		}
	}
	if back, err = sandbox.Become(path); err != nil {
		return nil, &exit{code: exitIO, err: err, help: "or run this as the user whose folder it is"}
	}
	return back, nil
}

// asOwner does something in a folder as its owner.
func asOwner(path string, do func() error) error {
	back, err := become(path)
	if err != nil {
		return err
	}
	err = do()
	if again := back(); again != nil {
		return errors.Join(err, again)
	}
	return err
}

// founded makes the state folder that is missing, for the user whom a relay
// goes on as: what root makes for itself, that relay could not read.
func (p *place) founded(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var in shutIn
	u, err := in.who(p.file() == "")
	if err != nil || u == nil {
		return err
	}
	return found(path, u.Own)
}

// found makes a folder that is missing: in a folder of root's by own, which
// gives it to the relay's user, and in anybody else's as its owner. There root
// makes nothing: the owner could put a link in the way meanwhile, and root would
// give away what that leads to.
func found(path string, own func(path string) error) error {
	above := filepath.Dir(path)
	info, err := os.Stat(above)
	for errors.Is(err, fs.ErrNotExist) {
		above = filepath.Dir(above)
		info, err = os.Stat(above)
	}
	if err != nil {
		return err
	}
	uid := -1
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(s.Uid)
	}
	if err := state.PlacedFor(path, uid); err != nil {
		return &exit{code: exitIO, err: err}
	}
	if uid != 0 {
		return asOwner(above, func() error { return os.MkdirAll(path, 0o700) })
	}
	return own(path)
}
