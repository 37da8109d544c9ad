package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"postern/internal/state"
)

// readLastUse reads when identities were last used. It is worth telling and
// not worth refusing to start, so an unreadable file counts as an empty one.
func readLastUse(path string) map[string]time.Time {
	uses := map[string]time.Time{}
	if data, _, err := state.ReadFile(path); err != nil || json.Unmarshal(data, &uses) != nil || uses == nil {
		return map[string]time.Time{}
	}
	return uses
}

// use notes a login. It stays in memory until Flush: a login must not wait
// for a disk.
func (s *Store) use(identity string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastUse[identity], s.used = now.UTC().Truncate(time.Second), true
}

// Flush writes down last uses and familiar networks; Run does so every minute
// and at its end.
func (s *Store) Flush() error { return errors.Join(s.flushLastUse(), s.flushFamiliar()) }

func (s *Store) flushLastUse() error {
	s.mu.Lock()
	if !s.used {
		s.mu.Unlock()
		return nil
	}
	maps.DeleteFunc(s.lastUse, func(identity string, _ time.Time) bool { return s.book.accounts[identity] == nil })
	data, err := json.Marshal(s.lastUse)
	s.used = false
	s.mu.Unlock()
	if err == nil {
		err = state.WriteFile(filepath.Join(s.dir, lastUseFile), data)
	}
	if err != nil {
		s.mu.Lock()
		s.used = true
		s.mu.Unlock()
		return fmt.Errorf("last uses: %w", err)
	}
	return nil
}
