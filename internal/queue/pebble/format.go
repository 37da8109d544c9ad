package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"

	lib "github.com/cockroachdb/pebble/v2"

	"postern/internal/problem"
)

// A step brings the store from one format to the next: what it adds to the
// batch is committed together with the new number, so that a crash leaves
// either the old format or the new one. nil: nothing is to be converted.
type step func(r lib.Reader, b *lib.Batch) error

// formats holds the step from each format to the next, the first from 1 to 2.
// The newest format is one more than there are steps.
var formats = []step{
	// 2 has a history, and records of version 2. Those of version 1 are read as
	// they are, however many wait, and written anew when they change.
	nil,
	// 3 has a ledger, which a program that does not know it would not keep.
	nil,
}

// upgrade makes sure that the store has the newest format.
func (s *store) upgrade(steps []step) error {
	have, err := formatOf(s.db)
	if err != nil {
		return err
	}
	for newest := uint64(len(steps)) + 1; have < newest; have++ {
		if err := s.setFormat(have+1, steps[have-1]); err != nil {
			return fmt.Errorf("from format %d to %d: %w", have, have+1, err)
		}
	}
	return nil
}

func tooNew(dir string, have, newest uint64) error {
	return problem.At(problem.Pos{File: dir}, fmt.Sprintf("the queue has format %d, and this program knows only up to %d", have, newest),
		"start the newer program that wrote it, or restore a backup made before the upgrade")
}

// formatOf returns the store's format; 0: it has none.
func formatOf(r lib.Reader) (uint64, error) {
	v, closer, err := r.Get([]byte{formatKey})
	if errors.Is(err, lib.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, size := binary.Uvarint(v)
	if size != len(v) || n == 0 {
		err = fmt.Errorf("the number of the queue's format is damaged: %x", v)
	}
	return n, errors.Join(err, closer.Close())
}

// setFormat writes the number of a format, with what leads to it.
func (s *store) setFormat(n uint64, do step) error {
	b := s.db.NewBatch()
	var err error
	if do != nil {
		err = do(s.db, b)
	}
	if err = errors.Join(err, b.Set([]byte{formatKey}, binary.AppendUvarint(nil, n), nil)); err != nil {
		return errors.Join(err, b.Close())
	}
	if s.ledger == nil { // the store is being made
		return errors.Join(b.Commit(lib.Sync), b.Close())
	}
	return s.commit(b, true)
}

// scanAll calls found if there is any key at all.
func scanAll(r lib.Reader, found func()) error {
	it, err := r.NewIter(nil)
	if err != nil {
		return err
	}
	if it.First() {
		found()
	}
	return errors.Join(it.Error(), it.Close())
}
