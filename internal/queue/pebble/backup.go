package pebble

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/problem"
)

// Backup makes a copy of the queue as it is now in a folder that must not be
// there yet, while the queue goes on. It costs little room and time where both
// folders are on one disk: files that no longer change are linked.
func (q *Queue) Backup(_ context.Context, dir string) error {
	s, done, err := q.use()
	if err != nil {
		return err
	}
	defer done()
	if _, err := q.o.FS.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return problem.At(problem.Pos{File: dir}, "it is there already", "name a folder that is not there yet")
	}
	if err := s.db.Checkpoint(dir, lib.WithFlushedWAL()); err != nil {
		return fmt.Errorf("backup to %s: %w", dir, err)
	}
	if err := s.fence.reason(); err != nil {
		return broken(err)
	}
	return nil
}

// Restore copies a backup to where a queue is to be, o.Dir, after it was found
// whole. No queue may be there.
func Restore(ctx context.Context, o Options, backup string) error {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	at := problem.Pos{File: o.Dir}
	if list, err := o.FS.List(o.Dir); err == nil && len(list) > 0 {
		return problem.At(at, "there is something in it already", "move it away first")
	}
	sum, err := Verify(ctx, Options{Dir: backup, FS: o.FS})
	if err != nil {
		return err
	}
	if len(sum.Faults) > 0 {
		return fmt.Errorf("the backup %s is not whole: %w", backup, errors.Join(sum.Faults...))
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return err
	}
	ok, err := vfs.Clone(o.FS, o.FS, backup, o.Dir, vfs.CloneSync)
	if err == nil && !ok {
		err = problem.At(problem.Pos{File: backup}, "there is no backup", "")
	}
	if err != nil {
		return err
	}
	return syncFolder(o.FS, o.FS.PathDir(o.Dir))
}

// A Sum is what a verification found.
type Sum struct {
	Messages int
	Octets   int64
	Corrupt  int     // records that were moved aside before
	Faults   []error // each names the message
}

// Verify reads every record and every octet of the queue or backup in o.Dir
// that no process has open, and changes nothing.
func Verify(ctx context.Context, o Options) (sum Sum, err error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	db, err := lib.Open(o.Dir, &lib.Options{
		FS: o.FS, ReadOnly: true, ErrorIfNotExists: true, FormatMajorVersion: lib.FormatValueSeparation,
		Logger: &logger{newFence(o.FS), func(error) {}},
	})
	if err != nil {
		return Sum{}, fmt.Errorf("queue %s: %w", o.Dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return verify(ctx, db)
}

// Verify reads every record and every octet of the queue as it is now, while
// it goes on.
func (q *Queue) Verify(ctx context.Context) (sum Sum, err error) {
	s, done, err := q.use()
	if err != nil {
		return Sum{}, err
	}
	defer done()
	now := s.db.NewSnapshot()
	defer func() { err = errors.Join(err, now.Close()) }()
	return verify(ctx, now)
}

// verify walks over records and bodies together: both are in the order of ids.
func verify(ctx context.Context, r lib.Reader) (sum Sum, err error) {
	if _, err := formatOf(r); err != nil {
		sum.fault("the format: %w", err)
	}
	excused := map[key]bool{} // bodies that need no record
	for _, prefix := range []byte{partKey, corruptKey} {
		err = errors.Join(err, scan(r, prefix, nil, func(k, _ []byte) (bool, error) {
			id, _ := keyIn(k)
			excused[id] = true
			if prefix == corruptKey {
				sum.Corrupt++
			}
			return true, nil
		}))
	}
	bodies, errNew := r.NewIter(&lib.IterOptions{LowerBound: []byte{bodyKey}, UpperBound: []byte{bodyKey + 1}})
	if err = errors.Join(err, errNew); err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, bodies.Close()) }()
	c := &collation{sum: &sum, bodies: bodies, excused: excused, more: bodies.First()}
	err = scan(r, messageKey, nil, func(k, v []byte) (bool, error) {
		m, bad := parseAt(k, v)
		if bad != nil {
			sum.fault("message %q: %w", k[1:], bad)
			return true, context.Cause(ctx)
		}
		c.until(m.ID)
		c.message(&m)
		return true, errors.Join(bodies.Error(), context.Cause(ctx))
	})
	c.until("")
	return sum, errors.Join(err, bodies.Error())
}

func (s *Sum) fault(format string, args ...any) {
	s.Faults = append(s.Faults, fmt.Errorf(format, args...))
}

// A collation lays bodies beside records.
type collation struct {
	sum     *Sum
	bodies  *lib.Iterator
	more    bool
	excused map[key]bool
	blamed  key
}

// until passes over bodies before that of id, which have no record; "": all.
func (c *collation) until(id string) {
	for ; c.more; c.more = c.bodies.Next() {
		k, _ := keyIn(c.bodies.Key())
		if id != "" && k.String() >= id {
			return
		}
		if !c.excused[k] && k != c.blamed {
			c.blamed = k
			c.sum.fault("message %s: a body without a record", k)
		}
	}
}

func (c *collation) message(m *record) {
	var n uint64
	var size int64
	var sum uint32
	for ; c.more; c.more = c.bodies.Next() {
		k, _ := keyIn(c.bodies.Key())
		if k.String() != m.ID {
			break
		}
		v, err := c.bodies.ValueAndErr()
		if err != nil {
			c.sum.fault("message %s: %w", m.ID, err)
		}
		if string(c.bodies.Key()) != string(k.chunk(n)) {
			c.sum.fault("message %s: part %d of the body is missing", m.ID, n)
		}
		n++
		size += int64(len(v))
		sum = crc32.Update(sum, castagnoli, v)
	}
	c.sum.Messages++
	c.sum.Octets += size
	if n != m.chunks || size != m.Size || sum != m.sum {
		c.sum.fault("message %s: %w: %d octets in %d parts, where %d in %d were stored", m.ID, errBody, size, n, m.Size, m.chunks)
	}
}
