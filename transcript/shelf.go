package transcript

import (
	"encoding/json"
	"errors"
	"time"
)

// A Shelf keeps octets outside memory.
type Shelf interface {
	Put(p []byte) (at int64, err error)
	Get(at int64, n int) ([]byte, error)
}

// ErrFull is returned by a Shelf that has no room.
var ErrFull = errors.New("the shelf is full")

// shelved says where entries stand.
type shelved struct {
	on Shelf
	at int64
	n  int
}

// Shelve moves to s what was recorded. What comes after stays in memory until
// Shelve is called again. When s is full the entries are dropped, and counted
// as such; when it fails otherwise they stay.
func (t *Transcript) Shelve(s Shelf) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.entries) == 0 {
		return
	}
	p, err := json.Marshal(asJSON(t.entries))
	if err != nil {
		return // entries are strings and octets: cannot happen
	}
	at, err := s.Put(p)
	switch {
	case errors.Is(err, ErrFull):
		for _, e := range t.entries {
			t.dropped += int64(len(e.Bytes))
		}
	case err != nil:
		return
	default:
		t.shelves = append(t.shelves, shelved{s, at, len(p)})
	}
	t.entries = nil
}

// fetch returns the entries that were shelved. What cannot be read is said in
// its place.
func (s shelved) fetch() []Entry {
	p, err := s.on.Get(s.at, s.n)
	var list []entryJSON
	if err == nil {
		err = json.Unmarshal(p, &list)
	}
	var entries []Entry
	for i := 0; err == nil && i < len(list); i++ {
		var e Entry
		e, err = list[i].entry()
		entries = append(entries, e)
	}
	if err != nil {
		return []Entry{{At: time.Time{}, Dir: Note, Bytes: []byte("this part of the conversation was put aside and cannot be read: " + err.Error())}}
	}
	return entries
}
