package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOneHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, err := Open(path)
	if err != nil || !f.New {
		t.Fatalf("Open = %+v, %v", f, err)
	}
	_, err = Open(path)
	var held *HeldError
	if !errors.As(err, &held) || held.Holder.PID != os.Getpid() || !strings.Contains(err.Error(), "--state") {
		t.Errorf("a second Open = %v; want who holds it and what to do", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil || again.New {
		t.Errorf("after Close: %+v, %v", again, err)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a newer one", "99\n", "written by a newer postern"},
		{"none", "hello\n", "no version of a state folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir()
			if err := os.WriteFile(filepath.Join(path, "version"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := Open(path); err == nil || strings.Contains(err.Error(), "held by") {
				t.Errorf("the refused folder is still held: %v", err)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/var/somewhere")
	if got, err := Default(); err != nil || got != "/var/somewhere/postern" {
		t.Errorf("Default() = %q, %v", got, err)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "/home/anna")
	if got, err := Default(); err != nil || got != "/home/anna/.local/state/postern" {
		t.Errorf("Default() = %q, %v", got, err)
	}
}
