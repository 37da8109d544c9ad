package pebble

import (
	"errors"
	"slices"

	lib "github.com/cockroachdb/pebble/v2"

	"postern/internal/queue"
)

// ChunkSize is how long a piece of a body is.
const ChunkSize = chunkSize

// Keys returns how many keys there are with each first octet.
func (q *Queue) Keys() (map[byte]int, error) {
	s, done, err := q.use()
	if err != nil {
		return nil, err
	}
	defer done()
	n := map[byte]int{}
	for _, prefix := range []byte{messageKey, bodyKey, partKey, corruptKey, eventKey, lifeKey, wordKey} {
		err = errors.Join(err, scan(s.db, prefix, nil, func([]byte, []byte) (bool, error) { n[prefix]++; return true, nil }))
	}
	return n, err
}

// Value returns what the store has at a key, the octet and the rest together.
func (q *Queue) Value(k string) ([]byte, error) {
	s, done, err := q.use()
	if err != nil {
		return nil, err
	}
	defer done()
	v, _, err := s.get([]byte(k))
	return v, err
}

// SetValue writes behind the engine's back, but not behind the ledger's.
func (q *Queue) SetValue(k string, v []byte) error {
	s, done, err := q.use()
	if err != nil {
		return err
	}
	defer done()
	b := s.db.NewBatch()
	if v == nil {
		err = b.Delete([]byte(k), nil)
	} else {
		err = b.Set([]byte(k), v, nil)
	}
	return errors.Join(err, s.commit(b, true))
}

// SetFormats adds steps between formats until the function that it returns is
// called.
func SetFormats(steps ...func(r lib.Reader, b *lib.Batch) error) (undo func()) {
	old := formats
	formats = slices.Clone(formats)
	for _, s := range steps {
		formats = append(formats, s)
	}
	return func() { formats = old }
}

// Record encodes a message as the store does.
func Record(m queue.Message, chunks uint64, sum uint32) []byte {
	return (&record{Message: m, chunks: chunks, sum: sum}).appendTo(nil)
}

// ParseRecord decodes what Record wrote.
func ParseRecord(b []byte) (m queue.Message, chunks uint64, sum uint32, err error) {
	r, err := parseRecord(b)
	return r.Message, r.chunks, r.sum, err
}

// SetFormat1 makes the program one of format 1, until the function that it
// returns is called.
func SetFormat1() (undo func()) {
	old := formats
	formats = nil
	return func() { formats = old }
}

// Life encodes a life as the store does.
func Life(l queue.Life) []byte {
	w := &writer{}
	w.life(&record{Message: l.Message}, l.Done)
	w.events(l.Events)
	return seal(w.b, 0)
}

// ParseLife decodes what Life wrote.
func ParseLife(b []byte) (queue.Life, error) { return parseLife(b) }

// Word returns the key by which a message is found.
func Word(word, id string) string { return string(wordAt(dayOf(id), hashOf(word), []byte(id))) }

// Flush writes what is in memory to a table.
func (q *Queue) Flush() error {
	s, done, err := q.use()
	if err != nil {
		return err
	}
	defer done()
	return s.db.Flush()
}
