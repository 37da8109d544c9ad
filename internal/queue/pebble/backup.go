package pebble

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"

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
	must, err := s.ledger.read()
	if err == nil {
		err = s.db.Checkpoint(dir, lib.WithFlushedWAL())
	}
	if err == nil {
		err = s.bookCopy(dir, must)
	}
	if err != nil {
		return fmt.Errorf("backup to %s: %w", dir, err)
	}
	if err := s.fence.reason(); err != nil {
		return broken(err)
	}
	return nil
}

// bookCopy gives a copy of the store a ledger, after it was compared with that
// of the store as it was before.
func (s *store) bookCopy(dir string, must *account) (err error) {
	lock, err := lib.LockDirectory(dir, s.fence)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	db, err := openAt(s.fence, dir, lock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDB(db)) }()
	b, err := s.balance(must, db)
	if err == nil {
		err = (&survey{folder: &folder{fs: s.fence, dir: dir}}).lacks(b)
	}
	if err != nil {
		return err
	}
	book, err := openLedger(s.fence, dir, s.ledger.id, db)
	if err != nil {
		return err
	}
	return book.close(true)
}

// balance compares an account that was read while the store goes on with what
// the store has, or had a little later.
func (s *store) balance(must *account, r lib.Reader) (b balance, err error) {
	must.closed = false
	if b, err = must.compare(r); err != nil || len(b.missing)+len(b.stale) == 0 {
		return b, err
	}
	// What has left since, without a trace, is not missing.
	now, err := s.ledger.read()
	if err != nil {
		return b, err
	}
	left := func(id string) bool { return !now.holds(keyOf(id)) }
	b.missing, b.stale = slices.DeleteFunc(b.missing, left), slices.DeleteFunc(b.stale, left)
	return b, nil
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
	Lives    int     // of messages that have left the queue
	Corrupt  int     // records that were moved aside before
	Faults   []error // each names the message, or the file
	// Unsure are messages that were coming in when the machine stopped and are
	// not there; whether their clients were answered is not known.
	Unsure []string
}

// Verify reads every record and every octet of the queue or backup in o.Dir
// that no process has open, and changes nothing.
func Verify(ctx context.Context, o Options) (sum Sum, err error) {
	db, err := openToRead(o)
	if err != nil {
		return Sum{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if sum, err = verify(ctx, db); err != nil {
		return sum, err
	}
	for _, r := range db.repairs {
		sum.fault("%s: %s; the next start mends it", o.Dir, r.why)
	}
	err = sum.audit(o, db)
	return sum, err
}

// A reading store is one that no process has open, and that is not changed.
type readingStore struct {
	*lib.DB
	lock    *lib.Lock
	repairs []repair // that a start would make; it is read as if they were made
}

// openToRead opens a store to be read.
func openToRead(o Options) (r *readingStore, err error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	have, err := look(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	if !have.any() {
		return nil, problem.At(problem.Pos{File: o.Dir}, "there is no queue in it", "")
	}
	r = &readingStore{}
	if r.repairs, err = have.repairs(); err != nil {
		return nil, err
	}
	if r.lock, err = lib.LockDirectory(o.Dir, o.FS); err != nil {
		return nil, err
	}
	if r.DB, err = openAt(newView(o.FS, o.Dir, r.repairs), o.Dir, nil); err != nil {
		return nil, errors.Join((&survey{folder: have}).explain(err), r.lock.Close())
	}
	return r, nil
}

func (r *readingStore) Close() error { return errors.Join(closeDB(r.DB), r.lock.Close()) }

// openAt opens a store to be read only.
func openAt(f vfs.FS, dir string, lock *lib.Lock) (*lib.DB, error) {
	return lib.Open(dir, &lib.Options{
		FS: f, ReadOnly: true, ErrorIfNotExists: true, FormatMajorVersion: lib.FormatValueSeparation, Lock: lock,
		Logger: &logger{newFence(f), func(error) {}},
	})
}

// Verify reads every record and every octet of the queue as it is now, while
// it goes on.
func (q *Queue) Verify(ctx context.Context) (sum Sum, err error) {
	s, done, err := q.use()
	if err != nil {
		return Sum{}, err
	}
	defer done()
	must, err := s.ledger.read()
	if err != nil {
		return Sum{}, err
	}
	now := s.db.NewSnapshot()
	defer func() { err = errors.Join(err, now.Close()) }()
	if sum, err = verify(ctx, now); err != nil {
		return sum, err
	}
	b, err := s.balance(must, now)
	sum.blame(must, b)
	return sum, err
}

// blame adds what the ledger found.
func (s *Sum) blame(a *account, b balance) {
	for _, f := range a.faults {
		s.fault("the ledger is damaged: %s", f)
	}
	for _, id := range b.missing {
		s.fault("message %s was answered 250 and is not there", id)
	}
	for _, id := range b.stale {
		s.fault("message %s is there in a form older than the last", id)
	}
}

// verify walks over records, bodies and events together: all are in the order
// of ids. Then over the history.
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
	c := &collation{sum: &sum}
	for _, p := range []struct {
		part   *parts
		prefix byte
		what   string
	}{{&c.bodies, bodyKey, "a body"}, {&c.events, eventKey, "events"}} {
		it, errNew := r.NewIter(&lib.IterOptions{LowerBound: []byte{p.prefix}, UpperBound: []byte{p.prefix + 1}})
		if err = errors.Join(err, errNew); err != nil {
			return sum, err
		}
		defer func() { err = errors.Join(err, it.Close()) }()
		*p.part = parts{Iterator: it, sum: &sum, what: p.what, excused: excused, more: it.First()}
	}
	err = scan(r, messageKey, nil, func(k, v []byte) (bool, error) {
		m, bad := parseAt(k, v)
		if bad != nil {
			sum.fault("message %q: %w", k[1:], bad)
			return true, context.Cause(ctx)
		}
		c.bodies.until(m.ID)
		c.events.until(m.ID)
		c.message(&m)
		c.happened(&m)
		return true, errors.Join(c.bodies.Error(), c.events.Error(), context.Cause(ctx))
	})
	c.bodies.until("")
	c.events.until("")
	err = errors.Join(err, c.bodies.Error(), c.events.Error(), scan(r, lifeKey, nil, func(k, v []byte) (bool, error) {
		l, bad := parseLife(v)
		if bad == nil && l.Message.ID != string(k[1:]) {
			bad = fmt.Errorf("%w: it names itself %s", errRecord, l.Message.ID)
		}
		if bad != nil {
			sum.fault("the history of message %q: %w", k[1:], bad)
		}
		sum.Lives++
		return true, context.Cause(ctx)
	}), scan(r, wordKey, nil, func(k, _ []byte) (bool, error) {
		if _, _, _, ok := wordIn(k); !ok {
			sum.fault("the history has a word without an id: %x", k)
		}
		return true, context.Cause(ctx)
	}))
	return sum, err
}

func (s *Sum) fault(format string, args ...any) {
	s.Faults = append(s.Faults, fmt.Errorf(format, args...))
}

// audit compares a store that no process has open with its ledger.
func (s *Sum) audit(o Options, db lib.Reader) error {
	format, err := formatOf(db)
	if err != nil {
		return err
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	have, err := look(o.FS, o.Dir)
	if err != nil {
		return err
	}
	holes := func() {
		for _, h := range have.holesIn() {
			s.fault("%s", h)
		}
	}
	a, err := readLedger(o.FS, o.FS.PathJoin(o.Dir, ledgerName))
	switch {
	case isMissing(err) && format == 0:
		s.fault("%s: what says that it is a queue is missing", o.Dir)
		return nil
	case isMissing(err):
		if format >= bookedFormat {
			s.fault("%s: the ledger is missing; whether messages are missing with it, nobody knows", o.Dir)
		}
		holes()
		return nil
	case err != nil:
		return err
	}
	b, err := a.compare(db)
	if err != nil {
		return err
	}
	s.blame(a, b)
	if len(b.missing)+len(b.stale) > 0 {
		holes()
	}
	s.Unsure = b.unsure
	return nil
}

// A collation lays bodies and events beside records.
type collation struct {
	sum    *Sum
	bodies parts
	events parts
}

// parts are what belongs to messages, under keys of their ids.
type parts struct {
	*lib.Iterator
	sum     *Sum
	what    string
	more    bool
	excused map[key]bool
	blamed  key
}

// until passes over parts before those of id, which have no record; "": all.
func (p *parts) until(id string) {
	for ; p.more; p.more = p.Next() {
		k, _ := keyIn(p.Key())
		if id != "" && k.String() >= id {
			return
		}
		if !p.excused[k] && k != p.blamed {
			p.blamed = k
			p.sum.fault("message %s: %s without a record", k, p.what)
		}
	}
}

// of calls do for each part of id.
func (p *parts) of(id string, do func(k key, v []byte)) {
	for ; p.more; p.more = p.Next() {
		k, _ := keyIn(p.Key())
		if k.String() != id {
			return
		}
		v, err := valueAt(p.Iterator)
		if err != nil {
			p.sum.fault("message %s: %w", id, err)
		}
		do(k, v)
	}
}

func (c *collation) message(m *record) {
	var n uint64
	var size int64
	var sum uint32
	c.bodies.of(m.ID, func(k key, v []byte) {
		if string(c.bodies.Key()) != string(k.chunk(n)) {
			c.sum.fault("message %s: part %d of the body is missing", m.ID, n)
		}
		n++
		size += int64(len(v))
		sum = crc32.Update(sum, castagnoli, v)
	})
	c.sum.Messages++
	c.sum.Octets += size
	if n != m.chunks || size != m.Size || sum != m.sum {
		c.sum.fault("message %s: %w: %d octets in %d parts, where %d in %d were stored", m.ID, errBody, size, n, m.Size, m.chunks)
	}
}

func (c *collation) happened(m *record) {
	var n uint64
	c.events.of(m.ID, func(k key, v []byte) {
		if _, err := parseEvents(v, &m.Message); err != nil || string(c.events.Key()) != string(k.event(n)) {
			c.sum.fault("message %s: event %d is missing or damaged: %v", m.ID, n, err)
		}
		n++
	})
	if n != m.events {
		c.sum.fault("message %s: what happened to it has %d parts, where %d were stored", m.ID, n, m.events)
	}
}
