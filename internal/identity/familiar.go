package identity

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"time"

	"postern/internal/state"
)

// A network from which an identity logged in is familiar to it for a month,
// and so many are.
const (
	familiarFor   = 30 * 24 * time.Hour
	familiarLimit = 32
)

// familiars are networks by identity, with the time until which each is known.
// They outlive the process: else strangers who guess before a restart would be
// a hindrance to everybody after it.
type familiars map[string]map[netip.Prefix]time.Time

// readFamiliar reads them as readLastUse reads: what cannot be read is nothing.
func readFamiliar(path string) familiars {
	f := familiars{}
	if data, _, err := state.ReadFile(path); err != nil || json.Unmarshal(data, &f) != nil || f == nil {
		return familiars{}
	}
	return f
}

func (f familiars) has(identity string, where netip.Prefix, now time.Time) bool {
	return now.Before(f[identity][where])
}

// add makes a network familiar; of too many, the one that ends first goes. It
// reports whether that is worth writing down: not at each login of a day.
func (f familiars) add(identity string, where netip.Prefix, now time.Time) bool {
	known := f[identity]
	if known == nil {
		known = map[netip.Prefix]time.Time{}
		f[identity] = known
	}
	until := now.Add(familiarFor).UTC().Truncate(time.Second)
	if until.Sub(known[where]) < 24*time.Hour {
		return false
	}
	known[where] = until
	for len(known) > familiarLimit {
		var first netip.Prefix
		for p, t := range known {
			if !first.IsValid() || t.Before(known[first]) {
				first = p
			}
		}
		delete(known, first)
	}
	return true
}

// knows reports whether an identity has logged in from a network lately.
func (s *Store) knows(identity string, where netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.familiar.has(identity, where, time.Now())
}

// meet notes that an identity logged in from a network.
func (s *Store) meet(identity string, where netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.familiar.add(identity, where, time.Now()) {
		s.met = true
	}
}

// flushFamiliar writes familiar networks down; those of who is gone, and those
// whose time is over, are forgotten.
func (s *Store) flushFamiliar() error {
	s.mu.Lock()
	if !s.met {
		s.mu.Unlock()
		return nil
	}
	now := time.Now()
	for identity, known := range s.familiar {
		for where, until := range known {
			if !now.Before(until) {
				delete(known, where)
			}
		}
		if s.book.accounts[identity] == nil || len(known) == 0 {
			delete(s.familiar, identity)
		}
	}
	data, err := json.Marshal(s.familiar)
	s.met = false
	s.mu.Unlock()
	if err == nil {
		err = state.WriteFile(filepath.Join(s.dir, familiarFile), data)
	}
	if err != nil {
		s.mu.Lock()
		s.met = true
		s.mu.Unlock()
	}
	return err
}
