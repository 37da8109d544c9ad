package main

import (
	"errors"
	"io/fs"
	"os"

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
	return u.Own(path)
}
