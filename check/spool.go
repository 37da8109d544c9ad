package check

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"postern/transcript"
)

// Conversations are nearly all that a check remembers, and few of them are ever
// shown. Where many targets are checked they lie in a file while the check
// waits, and for as long as somebody holds the report.

// maxSpooled bounds what all files of one checker hold, in octets: some
// thousand targets' conversations, or the ceaseless talk of a few.
const maxSpooled = 256 << 20

// spools counts what the files of one checker hold.
type spools struct{ held atomic.Int64 }

// A spool is the file of one target; it has no name, and is gone with the last
// reference to it. Nil keeps nothing: conversations stay where they are.
type spool struct {
	all *spools

	mu   sync.Mutex
	file *os.File // nil before the first conversation
	size *int64
	err  error // no file could be made: conversations stay in memory
}

func (s *spools) newSpool() *spool {
	if s == nil {
		return nil
	}
	f := &spool{all: s, size: new(int64)}
	runtime.AddCleanup(f, func(size *int64) { s.held.Add(-*size) }, f.size)
	return f
}

// take moves a conversation to the file.
func (s *spool) take(t *transcript.Transcript) {
	if s != nil && t != nil {
		t.Shelve(s)
	}
}

// Put appends p and returns where it stands.
func (s *spool) Put(p []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil && s.err == nil {
		s.err = s.open()
	}
	if s.err != nil {
		return 0, s.err
	}
	n := int64(len(p))
	if s.all.held.Add(n) > maxSpooled {
		s.all.held.Add(-n)
		return 0, transcript.ErrFull
	}
	at := *s.size
	*s.size += n
	_, err := s.file.WriteAt(p, at)
	return at, err
}

// open makes the file, which is closed when nobody refers to it any more.
func (s *spool) open() error {
	f, err := os.CreateTemp("", "postern-check-")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// Get returns the n octets at a place.
func (s *spool) Get(at int64, n int) ([]byte, error) {
	p := make([]byte, n)
	_, err := s.file.ReadAt(p, at)
	return p, err
}
