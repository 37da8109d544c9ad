package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"postern/internal/state"
)

// A Wall is what the relay has held back since it was set up.
type Wall struct {
	Since   time.Time `json:"since"`   // closed without a breach
	Days    int       `json:"days"`    // whole days since then
	Turned  int64     `json:"turned"`  // strangers' mail for others, turned away
	Relayed int64     `json:"relayed"` // strangers' mail for others, relayed: 0 for ever
}

// wall keeps the count across restarts.
type wall struct {
	path string
	mu   sync.Mutex
	w    Wall
}

func openWall(path string) (*wall, error) {
	w := &wall{path: path}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		w.w.Since = time.Now().UTC()
		return w, w.save(time.Now())
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(text, &w.w); err != nil {
		return nil, fmt.Errorf("%s: %w; move it away and the count begins anew", path, err)
	}
	return w, nil
}

func (w *wall) turnedAway() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.w.Turned++
}

// relayed counts what must never be.
func (w *wall) relayed(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.w.Relayed++
	w.w.Since = now.UTC()
}

func (w *wall) now(now time.Time) Wall {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.w
	v.Days = int(now.Sub(v.Since) / (24 * time.Hour))
	return v
}

func (w *wall) save(now time.Time) error {
	text, err := json.Marshal(w.now(now))
	if err != nil {
		return err
	}
	return state.WriteFile(w.path, append(text, '\n'))
}
