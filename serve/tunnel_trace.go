package serve

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/forward"
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
	t := &tunnelTraces{dir: dir, known: shelf{name: "known", size: 4 << 20, files: 8}, strangers: shelf{name: "strangers", size: 1 << 20, files: 2}}
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

// A tunnelSearch is what is looked for; zero fields let all pass.
type tunnelSearch struct {
	id, identity string
	peer         netip.Addr
	since, until time.Time
}

func (s *tunnelSearch) match(t *TunnelTrace) bool {
	switch {
	case s.id != "" && t.ID != s.id, s.identity != "" && !strings.EqualFold(t.Identity, s.identity):
		return false
	case !s.since.IsZero() && t.Asked.Before(s.since), !s.until.IsZero() && !t.Asked.Before(s.until):
		return false
	}
	return !s.peer.IsValid() || t.Peer == s.peer.String()
}

// tunnelSearchOf reads the words of a search; false when they look for what
// only mail has.
func tunnelSearchOf(v url.Values) (s tunnelSearch, ok bool, err error) {
	for _, name := range []string{"from", "to", "address", "name"} {
		if v.Get(name) != "" {
			return s, false, nil
		}
	}
	s.id, s.identity = v.Get("id"), v.Get("identity")
	if text := v.Get("peer"); text != "" {
		if s.peer, err = netip.ParseAddr(text); err != nil {
			return s, false, fmt.Errorf("peer: %w", err)
		}
		s.peer = s.peer.Unmap()
	}
	for name, at := range map[string]*time.Time{"since": &s.since, "until": &s.until} {
		if text := v.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return s, false, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return s, s.id != "" || s.identity != "" || s.peer.IsValid(), nil
}

// findTunnels returns the newest of those that match, the newest first, and
// whether there are more. now tells what an open one has carried; nil: no relay
// runs.
func findTunnels(dir string, s tunnelSearch, most int, now func(id string) (forward.Count, bool)) (list []TunnelTrace, more bool, err error) {
	found := map[string]TunnelTrace{}
	for _, shelf := range []shelf{{name: "known", files: 8}, {name: "strangers", files: 2}} {
		// The newest first: a file that is turned meanwhile is read twice, and none is missed.
		for n := range shelf.files {
			if err := readTunnels(shelf.file(dir, n), func(t TunnelTrace) {
				if before, ok := found[t.ID]; s.match(&t) && (!ok || before.State == tunnelOpen) {
					found[t.ID] = t
				}
			}); err != nil {
				return nil, false, err
			}
		}
	}
	for _, t := range found {
		if t.State == tunnelOpen {
			t.State = tunnelLost
			if now != nil {
				if n, ok := now(t.ID); ok {
					t.State, t.Up, t.Down = tunnelOpen, n.Up, n.Down
				}
			}
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b TunnelTrace) int { return cmp.Or(b.Asked.Compare(a.Asked), cmp.Compare(b.ID, a.ID)) })
	if more = most > 0 && len(list) > most; more {
		list = list[:most]
	}
	return list, more, nil
}

// readTunnels reads one file. A line that was not written whole is left out.
func readTunnels(name string, see func(TunnelTrace)) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("traces of tunnels: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	for lines.Scan() {
		var t TunnelTrace
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 && json.Unmarshal(line, &t) == nil && t.ID != "" {
			see(t)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("traces of tunnels: %w", err)
	}
	return nil
}
