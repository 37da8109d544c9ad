package transcript

import (
	"sync"
	"time"
)

// DefaultLimit is how many bytes a zero Transcript keeps: a whole battery of
// commands and replies, and the head of a message.
const DefaultLimit = 64 << 10

// entryCost is what an entry weighs beside its bytes, so that a peer that
// sends one byte at a time cannot fill the memory with entries.
const entryCost = 48

// A Dir is the direction of an entry.
type Dir uint8

// The directions, as the owner of the transcript sees them.
const (
	Sent Dir = iota + 1
	Received
	Note // not on the wire: a remark such as "connection closed by peer"
)

// String returns the word that stands in the JSON form.
func (d Dir) String() string {
	switch d {
	case Sent:
		return "sent"
	case Received:
		return "received"
	case Note:
		return "note"
	}
	return ""
}

// An Entry is what passed in one read or write, or a note.
type Entry struct {
	At    time.Time
	Dir   Dir
	TLS   bool // passed inside TLS
	Bytes []byte
}

// A Transcript records one conversation. The zero value is ready and keeps
// DefaultLimit bytes; a nil Transcript records nothing. It is safe for
// concurrent use.
type Transcript struct {
	mu      sync.Mutex
	shelves []shelved // what was put aside, before entries
	entries []Entry
	limit   int
	size    int
	dropped int64
	tls     bool
	sent    censor
	got     censor
}

// New returns a transcript that keeps up to limit bytes.
func New(limit int) *Transcript { return &Transcript{limit: limit} }

// Add records bytes that passed in one direction. It keeps no reference to p.
func (t *Transcript) Add(at time.Time, dir Dir, p []byte) {
	if t == nil || len(p) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch dir {
	case Sent:
		t.got.heard(p)
		p = t.sent.pass(p)
	case Received:
		t.sent.heard(p)
		p = t.got.pass(p)
	case Note:
	}
	t.keep(at, dir, p)
}

// Frame records octets of a protocol that has no lines, such as SOCKS. The
// watch for credentials, which goes by lines, does not see them: the caller
// keeps credentials out.
func (t *Transcript) Frame(at time.Time, dir Dir, p []byte) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(at, dir, p)
}

// Note records a remark.
func (t *Transcript) Note(at time.Time, text string) {
	t.Add(at, Note, []byte(text))
}

// StartTLS records that all that follows passes inside TLS.
func (t *Transcript) StartTLS(at time.Time, text string) {
	if t == nil {
		return
	}
	t.Note(at, text)
	t.mu.Lock()
	t.tls = true
	t.mu.Unlock()
}

func (t *Transcript) keep(at time.Time, dir Dir, p []byte) {
	if len(p) == 0 {
		return
	}
	limit := t.limit
	if limit <= 0 {
		limit = DefaultLimit
	}
	room := limit - t.size - entryCost
	if room <= 0 {
		// The size never shrinks, so once something is missing nothing is
		// added: a transcript with holes would show answers to what it lacks.
		t.dropped += int64(len(p))
		return
	}
	if len(p) > room {
		t.dropped += int64(len(p) - room)
		p = p[:room]
	}
	t.size += len(p) + entryCost
	t.entries = append(t.entries, Entry{At: at, Dir: dir, TLS: t.tls && dir != Note, Bytes: append([]byte(nil), p...)})
}

// Entries returns what was recorded, in order. The bytes must not be changed.
func (t *Transcript) Entries() []Entry {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Entry
	for _, s := range t.shelves {
		all = append(all, s.fetch()...)
	}
	return append(all, t.entries...)
}

// Dropped returns how many bytes passed after the limit was reached.
func (t *Transcript) Dropped() int64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}
