package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"postern/guard"
)

// A TunnelTrace is what became of one request of a gateway, as it is shown.
// Names are added, never changed.
type TunnelTrace struct {
	ID       string    `json:"id"`
	State    string    `json:"state"` // open, ended, refused; lost: the relay ended before it was noted how
	Gateway  string    `json:"gateway"`
	Asked    time.Time `json:"asked"`
	Done     time.Time `json:"done,omitzero"` // when it ended or was refused
	Peer     string    `json:"peer,omitempty"`
	Identity string    `json:"identity,omitempty"` // the user or the trusted client
	Grant    string    `json:"grant,omitempty"`    // its reason
	At       string    `json:"at,omitempty"`       // the line that granted it
	Place    string    `json:"place,omitempty"`    // that was asked for
	Addr     string    `json:"addr,omitempty"`     // where it led
	Up       int64     `json:"up,omitempty"`       // octets
	Down     int64     `json:"down,omitempty"`
	Cause    string    `json:"cause,omitempty"` // of a refusal
	Why      string    `json:"why,omitempty"`
}

// States of a TunnelTrace.
const (
	tunnelOpen    = "open"
	tunnelEnded   = "ended"
	tunnelRefused = "refused"
	tunnelLost    = "lost"
)

// tunnelFolder is where they are, in the state folder.
const tunnelFolder = "tunnels"

// A shelf is a file of lines to which one is added at its end, and those before
// it: when it is full, the oldest goes. It is not synced: what a power cut takes
// is who went where in the last seconds, and no mail.
type shelf struct {
	name  string
	size  int64 // of one file
	files int
	at    *os.File
	used  int64
}

// The shelves of those whom we know, and of strangers.
var (
	knownShelf     = shelf{name: "known", size: 4 << 20, files: 8}
	strangersShelf = shelf{name: "strangers", size: 1 << 20, files: 2}
)

// tunnelTraces keeps what became of tunnels, in a folder of the state: of those
// whom we know some 100,000 requests, and of strangers some 6,000 that were
// refused, apart from them, so that they push nothing out.
type tunnelTraces struct {
	dir string

	mu        sync.Mutex
	known     shelf
	strangers shelf
	failed    time.Time     // when that was told last
	rates     guard.Buckets // of refusals that are kept
}

// How many refusals are kept of one of ours, and of all strangers: whoever is
// refused again and again is refused for the same reason.
var (
	keptRefusals         = guard.Rate{N: 60, Per: time.Minute}
	keptStrangerRefusals = guard.Rate{N: 300, Per: time.Minute}
)

func openTunnelTraces(dir string) (*tunnelTraces, error) {
	t := &tunnelTraces{dir: dir, known: knownShelf, strangers: strangersShelf}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("traces of tunnels: %w", err)
	}
	return t, nil
}

// longestWhy bounds the words of an error, in which names stand that others
// chose.
const longestWhy = 300

// note keeps what an event tells.
func (t *tunnelTraces) note(now time.Time, e guard.TunnelEvent) error {
	line := TunnelTrace{ID: e.ID, Gateway: e.Gateway, Asked: now.Add(-e.Took).UTC(), Identity: e.Identity, Grant: e.Reason, Place: e.Place, Cause: e.Cause, Why: e.Why}
	switch e.Kind {
	case guard.Accepted:
		line.State = tunnelOpen
	case guard.Closed:
		line.State, line.Done, line.Up, line.Down = tunnelEnded, now.UTC(), e.Count.Up, e.Count.Down
	case guard.Refused:
		if line.State, line.Done = tunnelRefused, now.UTC(); !t.keeps(now, e.Identity) {
			return nil
		}
	case guard.Connected, guard.NotStored, guard.LoggedIn, guard.LoginFailed, guard.Withdrawn, guard.Held, guard.OverBudget, guard.Carried:
		return nil
	}
	if e.Peer.IsValid() {
		line.Peer = e.Peer.String()
	}
	if e.Addr.IsValid() {
		line.Addr = e.Addr.String()
	}
	if !e.Origin.IsZero() {
		line.At = e.Origin.String()
	}
	line.Why = line.Why[:min(len(line.Why), longestWhy)]
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.known
	if e.Identity == "" {
		s = &t.strangers
	}
	if err := s.add(t.dir, append(text, '\n')); err != nil && now.Sub(t.failed) >= lookAround {
		t.failed = now // the next tunnels will say the same
		return fmt.Errorf("traces of tunnels are not kept: %w", err)
	}
	return nil
}

func (t *tunnelTraces) keeps(now time.Time, who string) bool {
	if who == "" {
		return t.rates.Allow("", 1, keptStrangerRefusals, now)
	}
	return t.rates.Allow(who, 1, keptRefusals, now)
}

// file is the path of a shelf's file: 0 is the newest.
func (s *shelf) file(dir string, n int) string {
	if n == 0 {
		return filepath.Join(dir, s.name+".jsonl")
	}
	return filepath.Join(dir, s.name+"."+strconv.Itoa(n)+".jsonl")
}

func (s *shelf) add(dir string, line []byte) error {
	if s.at != nil && s.used+int64(len(line)) > s.size {
		if err := s.turn(dir); err != nil {
			return err
		}
	}
	if s.at == nil {
		f, err := os.OpenFile(s.file(dir, 0), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		s.at, s.used = f, info.Size()
		if s.used > 0 { // a line that was cut off must not swallow the next
			line = append([]byte{'\n'}, line...)
		}
	}
	n, err := s.at.Write(line)
	s.used += int64(n)
	return err
}

// turn begins a new file.
func (s *shelf) turn(dir string) error {
	err := s.close()
	for n := s.files - 1; n > 0 && err == nil; n-- {
		if err = os.Rename(s.file(dir, n-1), s.file(dir, n)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

func (s *shelf) close() error {
	if s.at == nil {
		return nil
	}
	f := s.at
	s.at, s.used = nil, 0
	return f.Close()
}

func (t *tunnelTraces) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.known.close(), t.strangers.close())
}

// forget removes the files in which nothing is as new as that.
func (t *tunnelTraces) forget(before time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, s := range []*shelf{&t.known, &t.strangers} {
		for n := range s.files {
			name := s.file(t.dir, n)
			info, err := os.Stat(name)
			if err != nil || !info.ModTime().Before(before) {
				continue
			}
			if n == 0 {
				errs = append(errs, s.close())
			}
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(errs...)
}
