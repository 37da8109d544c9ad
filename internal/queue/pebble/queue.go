package pebble

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/problem"
	"postern/internal/queue"
)

// Options say where a queue is kept, and what it may use.
type Options struct {
	Dir     string
	FS      vfs.FS // nil: that of the machine
	MaxSize int64  // of a body in octets; 0: no limit
	Memory  int64  // octets that tables in memory and the cache may take; 0: 288 MiB
	// Usage returns the octets that are free for us and all octets of the disk;
	// nil: asks the file system. An error means that nobody knows, and then the
	// reserve is not watched.
	Usage func() (free, total uint64, err error)
	// Report takes what an operator must hear of: damage, failures, recoveries.
	// It is called by any goroutine, and must not block; nil: nobody hears.
	Report func(error)
}

// A Queue is the embedded engine, for one process. All methods are safe for
// concurrent use. Somebody must be in Run, or a queue whose disk failed once
// stays broken.
type Queue struct {
	o       Options
	changed chan struct{}
	locks   [1024]sync.Mutex // of messages, by key: held over read, change, commit

	// The gate is held for reading while the store is used, and for writing while
	// it is replaced. It comes before the lock of a message, and that before mu.
	gate  sync.RWMutex
	store *store   // nil: broken and not opened again yet, or closed
	id    [16]byte // of the store; zero: not opened yet

	mu      sync.Mutex
	x       *index
	storing map[key]bool // by Put
	undo    map[key]bool // whose Put was answered by an error, and may be there all the same
	corrupt int
	closed  chan struct{}

	room    room
	helpers sync.WaitGroup  // who make room
	stopped context.Context // of the helpers; done when the queue is closed
	stop    context.CancelFunc
}

var _ queue.Queue = (*Queue)(nil)

// Open opens the queue in o.Dir, and makes one if there is none. Records that
// cannot be read are moved aside and reported; they do not stop the start. A
// store of a newer format is refused.
func Open(o Options) (*Queue, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	if o.Usage == nil {
		o.Usage = remembered(func() (free, total uint64, err error) {
			if _, err := o.FS.Stat(o.FS.PathJoin(o.Dir, ledgerName)); err != nil {
				return 0, 0, err
			}
			u, err := o.FS.GetDiskUsage(o.Dir)
			return u.AvailBytes, u.TotalBytes, err
		})
	}
	q := &Queue{o: o, changed: make(chan struct{}, 1), closed: make(chan struct{}), x: newIndex(), storing: map[key]bool{}, undo: map[key]bool{}}
	q.stopped, q.stop = context.WithCancel(context.Background())
	if err := q.open(); err != nil {
		return nil, fmt.Errorf("queue %s: %w", o.Dir, err)
	}
	_ = q.Room(0) // what there is too little of is told of now, and not by a client's 452
	return q, nil
}

// open opens the store and reads the index. The caller holds the gate, or is
// alone.
func (q *Queue) open() error {
	s, err := openStore(q.o, q.id)
	if err != nil {
		return err
	}
	x, err := q.load(s)
	if err == nil {
		err = s.fence.reason()
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	q.id = s.ledger.id
	q.mu.Lock()
	defer q.mu.Unlock()
	x.adopt(q.x)
	q.x, q.store = x, s
	clear(q.undo)
	return nil
}

// load reads all records, moves aside those that are none, and sweeps what
// unfinished Puts left.
func (q *Queue) load(s *store) (*index, error) {
	x := newIndex()
	tidy := s.db.NewBatch()
	aside := 0
	err := q.read(s, func(k []byte, v []byte, r record, bad error) error {
		id, _ := keyIn(k)
		switch {
		case bad != nil:
			aside++
			q.o.Report(q.asideProblem(k, bad))
			return moveAside(tidy, k, v)
		case q.undo[id]:
			return erase(tidy, &r)
		default:
			x.put(&r.Message)
			return nil
		}
	})
	err = errors.Join(err, scan(s.db, partKey, nil, func(k, _ []byte) (bool, error) {
		id, ok := keyIn(k)
		if !ok {
			return true, tidy.Delete(k, nil)
		}
		return true, eraseBody(tidy, id)
	}))
	if err == nil {
		err = s.commit(tidy, true)
	}
	if err != nil {
		return nil, err
	}
	n := 0
	err = scan(s.db, corruptKey, nil, func([]byte, []byte) (bool, error) { n++; return true, nil })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.corrupt = n
	return x, err
}

func (q *Queue) asideProblem(k []byte, bad error) error {
	return problem.At(problem.Pos{File: q.o.Dir}, fmt.Sprintf("message %q is moved aside and not delivered: %v", k[1:], bad),
		"restore it from a backup, or delete it")
}

func moveAside(b *lib.Batch, k, v []byte) error {
	return errors.Join(b.Set(append([]byte{corruptKey}, k[1:]...), v, nil), b.Delete(k, nil))
}

// read parses all records, on all processors, and hands them to take in any
// order, from one goroutine at a time.
func (q *Queue) read(s *store, take func(k, v []byte, r record, bad error) error) error {
	type pair struct{ k, v []byte }
	work := make(chan []pair, 2*runtime.GOMAXPROCS(0))
	var mu sync.Mutex
	var failed error
	var readers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		readers.Go(func() {
			for list := range work {
				records, errs := make([]record, len(list)), make([]error, len(list))
				for i, p := range list {
					records[i], errs[i] = parseAt(p.k, p.v)
				}
				mu.Lock()
				for i, p := range list {
					if failed == nil {
						failed = take(p.k, p.v, records[i], errs[i])
					}
				}
				mu.Unlock()
			}
		})
	}
	var list []pair
	err := scan(s.db, messageKey, nil, func(k, v []byte) (bool, error) {
		list = append(list, pair{append([]byte(nil), k...), append([]byte(nil), v...)})
		if len(list) == 256 {
			work <- list
			list = nil
		}
		return true, nil
	})
	work <- list
	close(work)
	readers.Wait()
	return errors.Join(err, failed)
}

// parseAt parses the record that was found at a key.
func parseAt(k, v []byte) (record, error) {
	id, ok := keyIn(k)
	if !ok || len(k) != 1+len(id) {
		return record{}, fmt.Errorf("%w: no id", errRecord)
	}
	r, err := parseRecord(v)
	if err == nil && r.ID != id.String() {
		err = fmt.Errorf("%w: it names itself %s", errRecord, r.ID)
	}
	return r, err
}

var errClosed = errors.New("the queue is closed")

// use returns the store for one short use; done must be called after it.
func (q *Queue) use() (s *store, done func(), err error) {
	q.gate.RLock()
	s = q.store
	switch {
	case s == nil:
		err = errors.New("the store is not open")
		select {
		case <-q.closed:
			err = errClosed
		default:
		}
	case s.fence.down():
		err = s.fence.reason()
	default:
		return s, q.gate.RUnlock, nil
	}
	q.gate.RUnlock()
	return nil, nil, broken(err)
}

// How long Run waits before it opens a failed store again, at first and at most.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
)

// Run watches the store until ctx is done. When the disk fails, it closes the
// store and opens it again, first at once, then after pauses that double.
func (q *Queue) Run(ctx context.Context) error {
	for {
		q.gate.RLock()
		s := q.store
		q.gate.RUnlock()
		if s == nil {
			return nil // closed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.closed:
			return nil
		case <-s.fence.fallen:
		}
		q.o.Report(fmt.Errorf("the queue's store failed, and is opened again: %w", s.fence.reason()))
		if !q.reopen(ctx) {
			return nil
		}
		q.o.Report(problem.Warn(problem.Pos{File: q.o.Dir}, "the queue's store works again", ""))
		q.wake()
	}
}

// reopen throws the fallen store away and opens it again; false: ctx was done
// or the queue closed before that.
func (q *Queue) reopen(ctx context.Context) bool {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		ok, err := q.replace()
		if err == nil {
			return ok
		}
		q.o.Report(fmt.Errorf("the queue's store cannot be opened; next try in %v: %w", pause, err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-q.closed:
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

func (q *Queue) replace() (ok bool, err error) {
	q.gate.Lock()
	defer q.gate.Unlock()
	select {
	case <-q.closed:
		return false, nil
	default:
	}
	if q.store != nil {
		_ = q.store.close() // its errors are those of what fell
		q.store = nil
	}
	return true, q.open()
}

// Close closes the queue; what is answered 250 to is on stable storage already.
func (q *Queue) Close() error {
	q.stop()
	q.helpers.Wait()
	q.gate.Lock()
	defer q.gate.Unlock()
	select {
	case <-q.closed:
		return nil
	default:
	}
	close(q.closed)
	s := q.store
	q.store = nil
	if s == nil {
		return nil
	}
	err := s.close()
	if s.fence.down() {
		return broken(s.fence.reason())
	}
	return err
}

// Changed implements queue.Supply.
func (q *Queue) Changed() <-chan struct{} { return q.changed }

func (q *Queue) wake() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}
