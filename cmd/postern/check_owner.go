package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"postern/check"
	"postern/plan"
)

// printProofs prints the TXT record that proves each target ours.
func (f *checkFlags) printProofs(w io.Writer, targets []plan.Target) error {
	secret, err := proofSecret(f.proofFile, true)
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	for _, t := range targets {
		fmt.Fprintf(w, "%s%s.  IN TXT  %q\n", check.ProofName, t.Host, check.ProofText(secret, t.Host, time.Now()))
	}
	return nil
}

// proofSecret reads the secret behind ownership records, and makes it where
// it is missing and create says so. Without one nothing can be proved.
func proofSecret(file string, create bool) ([]byte, error) {
	if file == "" {
		dir, err := stateDir()
		if err != nil {
			return nil, nil //nolint:nilerr // no state folder: nothing was ever proved here
		}
		file = filepath.Join(dir, "ownership.secret")
	}
	secret, err := os.ReadFile(file)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || !create {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return secret, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	secret = []byte(rand.Text() + rand.Text())
	return secret, os.WriteFile(file, secret, 0o600)
}

// stateDir is the folder for what outlives a run (XDG Base Directory).
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "postern"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "postern"), nil
}
