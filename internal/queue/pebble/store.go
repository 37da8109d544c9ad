package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/problem"
	"postern/internal/queue"
)

// The first octets of the keys.
const (
	formatKey  = 'f'
	messageKey = 'm'
	bodyKey    = 'b'
	partKey    = 'p'
	corruptKey = 'x'
	eventKey   = 'e'
	lifeKey    = 'h'
	wordKey    = 'i'
)

func (k key) at(prefix byte) []byte { return append(append(make([]byte, 0, 21), prefix), k[:]...) }

func (k key) chunk(n uint64) []byte {
	return binary.BigEndian.AppendUint32(k.at(bodyKey), uint32(n))
}

func (k key) event(n uint64) []byte {
	return binary.BigEndian.AppendUint32(k.at(eventKey), uint32(n))
}

// keyIn returns the id in a key of the store; false: there is none.
func keyIn(b []byte) (k key, ok bool) {
	if len(b) < 1+len(k) {
		return k, false
	}
	copy(k[:], b[1:])
	_, err := queue.ParseID(k.String())
	return k, err == nil
}

// chunkSize is how much of a body is one value: small enough that 256 sessions
// hold 32 MiB, large enough that 25 MiB are 200 values.
const chunkSize = 128 << 10

// A store is one opening of the library's database.
type store struct {
	db     *lib.DB
	fence  *fence
	ledger *ledger
	lock   *lib.Lock // on the folder, while it is looked at and while it is open
}

// openStore opens the database and brings its format up to date. It makes one
// only where nothing says that there was one. known is the id of the store that
// this process had open before; zero: none.
func openStore(o Options, known [16]byte) (*store, error) {
	s := &store{fence: newFence(o.FS)}
	v, err := s.survey(o, known)
	if err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	if v.fresh {
		if err := s.fence.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, err
		}
		if err := syncFolder(s.fence, s.fence.PathDir(o.Dir)); err != nil {
			return nil, err
		}
	}
	lo := s.options(o)
	lo.ErrorIfNotExists, lo.Lock = !v.fresh, s.lock
	if s.db, err = lib.Open(o.Dir, lo); err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	if err := s.begin(o, v); err != nil {
		return nil, errors.Join(err, closeDB(s.db), s.unlock())
	}
	return s, nil
}

func (s *store) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// begin makes all that is to be there before the store is used.
func (s *store) begin(o Options, v survey) error {
	if v.fresh { // a store with a ledger and without a format is damaged
		if err := s.setFormat(uint64(len(formats))+1, nil); err != nil {
			return err
		}
	}
	if !v.booked() {
		v.id = newStoreID()
	}
	book, err := openLedger(s.fence, o.Dir, v.id, s.db)
	if err != nil {
		return err
	}
	s.ledger = book
	s.fence.ledger.Store(book)
	if err := errors.Join(setMade(s.fence, o.Dir), s.upgrade(formats)); err != nil {
		return errors.Join(err, book.close(false))
	}
	s.fence.raise()
	return nil
}

// close closes the store. What fell is closed without a word.
func (s *store) close() error {
	err := closeDB(s.db)
	peace := err == nil && !s.fence.down()
	return errors.Join(err, s.ledger.close(peace), s.unlock())
}

// syncFolder makes the names in a folder stable. The folder above one that was
// just made must be synced too, or the whole may be gone after a power loss.
func syncFolder(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// What the library holds in memory: tables that are being written, of which
// the last ones wait for the disk, and a cache of what was read.
const (
	memTables     = 4
	mostMemTable  = 64 << 20
	leastMemTable = 2 << 20 // a chunk of a body and its record fit many times
)

// memory divides what the store may hold among its tables and its cache.
// 64 MiB a table hold what comes in some seconds at full speed. Most of it is
// delivered and deleted by then, and never becomes a table on disk.
func memory(all int64) (table uint64, cache int64) {
	table = mostMemTable
	if all > 0 {
		table = uint64(min(max(2*all/(2*memTables+1), leastMemTable), mostMemTable))
	}
	return table, int64(table / 2) // the cache
}

func (s *store) options(o Options) *lib.Options {
	table, cache := memory(o.Memory)
	lo := &lib.Options{
		FS:                          s.fence,
		Logger:                      &logger{s.fence, o.Report},
		FormatMajorVersion:          lib.FormatValueSeparation,
		MemTableSize:                table,
		MemTableStopWritesThreshold: memTables,
		CacheSize:                   cache,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		EventListener: &lib.EventListener{
			BackgroundError: s.background(o.Report),
			DataCorruption: func(info lib.DataCorruptionInfo) {
				o.Report(problem.At(problem.Pos{File: info.Path}, "a file of the queue is damaged: "+info.Details.Error(),
					"stop the relay: "+salvageAdvice))
			},
		},
	}
	// Bodies lie beside the tables, so that compactions of the records and
	// scans over them do not move or read them.
	lo.Experimental.ValueSeparationPolicy = func() lib.ValueSeparationPolicy {
		return lib.ValueSeparationPolicy{
			Enabled: true, MinimumSize: 2 << 10, MaxBlobReferenceDepth: 10,
			RewriteMinimumAge: 5 * time.Minute, TargetGarbageRatio: 0.3,
		}
	}
	return lo
}

// background returns what hears of flushes and compactions that failed. The
// library tries again without a pause, so the same is reported once a minute.
func (s *store) background(report func(error)) func(error) {
	var mu sync.Mutex
	var last string
	var at time.Time
	return func(err error) {
		mu.Lock()
		again := err.Error() == last && time.Since(at) < time.Minute
		if !again {
			last, at = err.Error(), time.Now()
		}
		mu.Unlock()
		if !again && !s.fence.down() {
			report(fmt.Errorf("queue store: %w", err))
		}
	}
}

// commit writes a batch and gives it back to the library, so that nobody may
// touch it any more. With sync it returns only when the batch is on stable
// storage. An error says that nobody knows whether it is there.
func (s *store) commit(b *lib.Batch, sync bool) error {
	how := lib.NoSync
	if sync {
		how = lib.Sync
	}
	p, err := s.ledger.enter(b, sync)
	if err != nil {
		return broken(err)
	}
	err = b.Commit(how)
	if why := s.fence.reason(); why != nil {
		return broken(why)
	}
	if err != nil {
		return broken(err)
	}
	if err = s.ledger.leave(p, sync); err != nil {
		return broken(err)
	}
	if why := s.fence.reason(); why != nil {
		return broken(why)
	}
	return b.Close()
}

// get returns the value of a key; false: it is not there.
func (s *store) get(k []byte) (value []byte, ok bool, err error) {
	v, closer, err := getFrom(s.db, k)
	if errors.Is(err, lib.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, broken(err)
	}
	value = append([]byte(nil), v...)
	return value, true, closer.Close()
}

// getFrom reads a value. The library panics where it would report that a blob
// is damaged and has no name for it (reportCorruption, of v2.1.7).
func getFrom(r lib.Reader, k []byte) (v []byte, closer io.Closer, err error) {
	defer caught(&err)
	return r.Get(k)
}

// valueAt reads the value that an iterator is at.
func valueAt(it *lib.Iterator) (v []byte, err error) {
	defer caught(&err)
	return it.ValueAndErr()
}

// closeDB closes the library's database, which panics if it lost count of a
// damaged file's readers. All that was committed is on the disk before.
func closeDB(db *lib.DB) (err error) {
	defer caught(&err)
	return db.Close()
}

func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("a file of the store is damaged: %v", p)
	}
}

// record reads the record of a message: queue.ErrNoSuchID, or an error of
// errRecord if it cannot be one.
func (s *store) record(k key) (record, error) {
	v, ok, err := s.get(k.at(messageKey))
	if err != nil {
		return record{}, err
	}
	if !ok {
		return record{}, queue.ErrNoSuchID
	}
	r, err := parseRecord(v)
	if err == nil && r.ID != k.String() {
		err = fmt.Errorf("%w: it names itself %s", errRecord, r.ID)
	}
	return r, err
}

// scan calls do for each key with a prefix, from the given key on. The key and
// the value are good until do returns.
func scan(r lib.Reader, prefix byte, from []byte, do func(k, v []byte) (more bool, err error)) (err error) {
	if from == nil {
		from = []byte{prefix}
	}
	it, err := r.NewIter(&lib.IterOptions{LowerBound: from, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := valueAt(it)
		if err != nil {
			return err
		}
		if more, err := do(it.Key(), v); err != nil || !more {
			return err
		}
	}
	return it.Error()
}

// erase adds to b the removal of a message with its body and its events.
func erase(b *lib.Batch, r *record) error {
	k := keyOf(r.ID)
	err := b.Delete(k.at(messageKey), nil)
	for n := range r.chunks {
		size := min(r.Size-int64(n)*chunkSize, chunkSize)
		err = errors.Join(err, b.DeleteSized(k.chunk(n), uint32(max(size, 0)), nil))
	}
	for n := range r.events {
		err = errors.Join(err, b.Delete(k.event(n), nil))
	}
	return err
}

// eraseBody adds to b the removal of all of a body, of the mark that it was
// being written, and of events, when no record says how many they are.
func eraseBody(b *lib.Batch, k key) error {
	err := b.Delete(k.at(partKey), nil)
	for _, prefix := range []byte{bodyKey, eventKey} {
		end := append(k.at(prefix), 0xff, 0xff, 0xff, 0xff, 0xff)
		err = errors.Join(err, b.DeleteRange(k.at(prefix), end, nil))
	}
	return err
}

// broken makes an error of the store one that a client can be told.
func broken(why error) error { return fmt.Errorf("%w: %w", queue.ErrBroken, why) }

// A logger stands where the library would end the process.
type logger struct {
	fence  *fence
	report func(error)
}

func (*logger) Infof(string, ...any) {}

func (l *logger) Errorf(format string, args ...any) {
	l.report(fmt.Errorf("queue store: "+format, args...))
}

// Fatalf is called when the library cannot go on. It goes on, behind the
// fallen fence, where it can do no harm, until it is closed.
func (l *logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("queue store: "+format, args...)
	if !l.fence.fall(err) {
		l.report(err)
	}
}
