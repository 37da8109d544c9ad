package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strings"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/problem"
)

// Salvaged is what came out of a damaged store.
type Salvaged struct {
	Messages int
	Octets   int64
	Lives    int
	Lost     []Loss   // messages of which not all can be read
	Unsure   []string // as Sum has it
	Notes    []string // what else is not as it was
}

// A Loss is one message.
type Loss struct{ ID, Why string }

// Salvage copies all that can be read of the store in o.Dir, which no process
// has open, into a new queue. The store is not changed. What the ledger names
// and no file has is among the lost.
//
// The store is read as if its damaged places were not there: logs without what
// cannot be read of them, and, where a message needs a damaged table, as if
// that were empty.
func Salvage(ctx context.Context, o Options, into string) (out Salvaged, err error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	s := &salvage{o: o, out: &out}
	if err := s.look(); err != nil {
		return out, err
	}
	lock, err := lib.LockDirectory(o.Dir, o.FS)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	defer s.close()
	for _, v := range s.views {
		db, err := lib.Open(o.Dir, &lib.Options{
			FS: v, ReadOnly: true, ErrorIfNotExists: true, FormatMajorVersion: lib.FormatValueSeparation,
			Logger: &logger{newFence(v), func(error) {}}, DisableConsistencyCheck: true,
		})
		if err != nil {
			s.note("%s", plain(err))
			continue
		}
		s.from = append(s.from, db)
	}
	if len(s.from) == 0 {
		return out, problem.At(problem.Pos{File: o.Dir}, "nothing of the store can be read: "+strings.Join(out.Notes, "; "), "restore a backup; the folder stays as it is")
	}
	q, err := Open(Options{Dir: into, FS: o.FS, Report: func(err error) { s.note("%s", err.Error()) }})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	return out, s.copy(ctx, q.store)
}

// A salvage is one in progress.
type salvage struct {
	o     Options
	out   *Salvaged
	book  *account // nil: it cannot be read
	views []*view  // to be read in this order
	from  []*lib.DB
}

func (s *salvage) note(format string, args ...any) {
	s.out.Notes = append(s.out.Notes, fmt.Sprintf(format, args...))
}

func (s *salvage) close() {
	for _, db := range s.from {
		_ = closeDB(db) // nothing was written
	}
}

// look finds what is damaged, and makes the views.
func (s *salvage) look() error {
	have, err := look(s.o.FS, s.o.Dir)
	if err != nil {
		return err
	}
	if !have.any() {
		return problem.At(problem.Pos{File: s.o.Dir}, "there is no queue in it", "")
	}
	list, err := have.repairs()
	if err != nil {
		return err
	}
	for _, r := range list {
		s.note("%s", r.why)
	}
	if s.book, err = readLedger(s.o.FS, s.o.FS.PathJoin(s.o.Dir, ledgerName)); err != nil {
		s.note("the ledger cannot be read, so that nobody knows what is missing: %v", err)
	} else {
		for _, f := range s.book.faults {
			s.note("the ledger is damaged: %s", f)
		}
	}
	for _, name := range have.logs {
		b, err := have.read(name)
		if err != nil {
			s.note("%v", err)
		}
		records, _ := logRecords(b, uint32(number(name)))
		list = append(list, repair{name: name, is: logOf(records, uint32(number(name)))})
	}
	for _, h := range have.holesIn() {
		s.note("%s", h)
	}
	first := newView(s.o.FS, s.o.Dir, list)
	s.views = []*view{first}
	if bad := s.badTables(have, first); len(bad) > 0 {
		empty, err := emptyTable()
		if err != nil {
			return err
		}
		for _, name := range bad {
			list = append(list, repair{name: name, is: empty})
		}
		s.views = append(s.views, newView(s.o.FS, s.o.Dir, list))
	}
	return nil
}

var tableInError = regexp.MustCompile(`L\d+: (\d{6,})`)

// badTables returns the names of tables that are damaged or missing.
func (s *salvage) badTables(have *folder, v *view) (bad []string) {
	for _, name := range have.tables {
		if err := checkTable(s.o.FS, s.o.FS.PathJoin(s.o.Dir, name)); err != nil {
			s.note("%s: %s", name, plain(err))
			bad = append(bad, name)
		}
	}
	db, err := openAt(v, s.o.Dir, nil)
	if err == nil {
		_ = closeDB(db) // nothing was written
		return bad
	}
	for _, m := range tableInError.FindAllStringSubmatch(err.Error(), -1) {
		if name := m[1] + ".sst"; !slices.Contains(bad, name) {
			s.note("%s is missing, or not as it was", name)
			bad = append(bad, name)
		}
	}
	return bad
}

func checkTable(f vfs.FS, path string) error {
	file, err := f.Open(path)
	if err != nil {
		return err
	}
	in, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r, err := sstable.NewReader(context.Background(), in, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(err, in.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// emptyTable returns a table without keys.
func emptyTable() ([]byte, error) {
	disk := vfs.NewMem()
	file, err := disk.Create("empty", vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	o := &lib.Options{}
	o.EnsureDefaults()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(file), o.MakeWriterOptions(0, lib.FormatValueSeparation.MaxTableFormat()))
	if err := w.Close(); err != nil {
		return nil, err
	}
	return readFile(disk, "empty")
}

// copy copies messages one by one, then the history.
func (s *salvage) copy(ctx context.Context, to *store) error {
	for _, id := range s.ids() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := s.message(to, id); err != nil {
			return err
		}
	}
	if err := s.history(to); err != nil {
		return err
	}
	b := to.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return err
	}
	return to.commit(b, true)
}

// ids returns, in order, all messages that the ledger or any view knows.
func (s *salvage) ids() (list []key) {
	seen := map[key]bool{}
	add := func(k key) {
		if !seen[k] {
			seen[k] = true
			list = append(list, k)
		}
	}
	if s.book != nil {
		for _, k := range s.book.ids() {
			add(k)
		}
	}
	for _, db := range s.from {
		err := scan(db, messageKey, nil, func(k, _ []byte) (bool, error) {
			if id, ok := keyIn(k); ok && len(k) == 1+len(id) && !s.left(id) {
				add(id)
			}
			return true, nil
		})
		if err != nil && s.book == nil {
			s.note("messages after a damaged place are not known: %s", plain(err))
		}
	}
	slices.SortFunc(list, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	return list
}

// left reports whether a message that is in a file has left by the ledger.
func (s *salvage) left(k key) bool {
	return s.book != nil && s.book.items[[17]byte(k.at(messageKey))] != nil && !s.book.holds(k)
}

var errNotThere = errors.New("it is in no file that can be read")

// message copies one message from the first view that has all of it.
func (s *salvage) message(to *store, k key) error {
	var why error
	for _, db := range s.from {
		r, body, err := whole(db, k)
		switch {
		case err == nil:
			return s.write(to, db, &r, body)
		case errors.Is(err, errLeft):
			return nil
		case why == nil || errors.Is(why, errNotThere):
			why = err
		}
	}
	if s.book != nil {
		if i := s.book.items[[17]byte(k.at(messageKey))]; i != nil {
			if last, _ := s.book.last(i); last == nil && errors.Is(why, errNotThere) {
				s.out.Unsure = append(s.out.Unsure, k.String())
				return nil
			}
		}
	}
	s.out.Lost = append(s.out.Lost, Loss{k.String(), plain(why)})
	return nil
}

var errLeft = errors.New("it has left the queue")

// whole reads all of a message.
func whole(db *lib.DB, k key) (r record, body [][]byte, err error) {
	v, err := valueIn(db, k.at(messageKey))
	if errors.Is(err, lib.ErrNotFound) {
		err = errNotThere
		for _, prefix := range []byte{lifeKey, corruptKey} {
			if _, bad := valueIn(db, k.at(prefix)); bad == nil {
				err = errLeft
			}
		}
	}
	if err == nil {
		r, err = parseAt(k.at(messageKey), v)
	}
	if err != nil {
		return r, nil, err
	}
	var size int64
	var sum uint32
	for n := range r.chunks {
		part, err := valueIn(db, k.chunk(n))
		if err != nil {
			return r, nil, fmt.Errorf("part %d of %d of the body: %w", n+1, r.chunks, err)
		}
		size += int64(len(part))
		sum = crc32.Update(sum, castagnoli, part)
		body = append(body, part)
	}
	if size != r.Size || sum != r.sum {
		return r, nil, errBody
	}
	return r, body, nil
}

func valueIn(db *lib.DB, k []byte) (value []byte, err error) {
	v, closer, err := getFrom(db, k)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), v...), closer.Close()
}

func (s *salvage) write(to *store, db *lib.DB, r *record, body [][]byte) error {
	k := keyOf(r.ID)
	b := to.db.NewBatch()
	var err error
	for n, part := range body {
		err = errors.Join(err, b.Set(k.chunk(uint64(n)), part, nil))
	}
	events, had := uint64(0), r.events
	for n := range had {
		if v, bad := valueIn(db, k.event(n)); bad == nil {
			err = errors.Join(err, b.Set(k.event(events), v, nil))
			events++
		}
	}
	if r.events = events; events < had {
		s.note("message %s: not all that happened to it can be read", r.ID)
	}
	if s.book != nil {
		v, errGet := valueIn(db, k.at(messageKey))
		if i := s.book.items[[17]byte(k.at(messageKey))]; errGet == nil && i != nil && s.book.older(i, sumOf(v)) {
			s.note("message %s is there in a form older than the last, and may go again to whom it went", r.ID)
		}
	}
	if err = errors.Join(err, b.Set(k.at(messageKey), r.appendTo(nil), nil)); err != nil {
		return errors.Join(err, b.Close())
	}
	s.out.Messages++
	s.out.Octets += r.Size
	return to.commit(b, false)
}

// history copies what can be read of it, from the view that has the fewest holes.
func (s *salvage) history(to *store) error {
	for _, prefix := range []byte{lifeKey, wordKey, corruptKey} {
		b := to.db.NewBatch()
		err := scan(s.from[len(s.from)-1], prefix, nil, func(k, v []byte) (bool, error) {
			if prefix == lifeKey {
				s.out.Lives++
			}
			if err := b.Set(k, v, nil); err != nil || b.Len() < 1<<20 {
				return true, err
			}
			full := b
			b = to.db.NewBatch()
			return true, to.commit(full, false)
		})
		if err != nil {
			s.note("the history ends at a damaged place: %s", plain(err))
		}
		if err := to.commit(b, false); err != nil {
			return err
		}
	}
	return nil
}
