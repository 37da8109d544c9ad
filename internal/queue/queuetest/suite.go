package queuetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/fault"
	"postern/internal/problem"
	"postern/internal/queue"
)

// An Engine is how the suite opens the queues that it tests.
type Engine struct {
	// Open opens the queue in a folder. On a nil file system the folder is one
	// of the machine.
	Open func(fs vfs.FS, dir string, o Options) (Queue, error)
}

// Options are what the suite asks of a queue.
type Options struct {
	MaxSize int64
	Usage   func() (free, total uint64, err error)
	Report  func(error)
}

// A Queue under test: it also recovers by itself while Run runs, and can say
// whether all that it keeps is whole.
type Queue interface {
	queue.Queue
	Run(ctx context.Context) error
	Whole(ctx context.Context) error
}

// Main must be called by TestMain of an engine's tests: when the suite has
// started the test binary again, to be killed, it does not return.
func Main(e Engine) {
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(e, dir)
		os.Exit(1)
	}
}

// Run runs the suite.
func Run(t *testing.T, e Engine) {
	t.Run("put", e.testPut)
	t.Run("put refused", e.testPutRefused)
	t.Run("lease", e.testLease)
	t.Run("fairness", e.testFairness)
	t.Run("lanes", e.testLanes)
	t.Run("leases end", e.testLeasesEnd)
	t.Run("settle", e.testSettle)
	t.Run("next and changed", e.testNext)
	t.Run("desk", e.testDesk)
	t.Run("list", e.testList)
	t.Run("sums", e.testSums)
	t.Run("history", e.testHistory)
	t.Run("history of", e.testHistoryOf)
	t.Run("find", e.testFind)
	t.Run("forget", e.testForget)
	t.Run("many at once", e.testMany)
	t.Run("clock", e.testClock)
	t.Run("clock that is set", e.testShift)
	t.Run("clock that was wrong", e.testShiftUnseen)
	t.Run("restart", e.testRestart)
	t.Run("model", e.testModel)
	t.Run("no room", e.testNoRoom)
	t.Run("full disk", e.testFullDisk)
	t.Run("failing disk", e.testFailingDisk)
	t.Run("power loss", e.testPowerLoss)
	t.Run("kill", e.testKill)
}

// faults returns a Report under which a test fails that hears of a fault; what
// only warns is not one.
func faults(t *testing.T, when string) func(error) {
	return func(err error) {
		if fatal, _ := problem.Split(err); fatal != nil {
			t.Errorf("%sreported: %v", when, err)
		}
	}
}

// noon is when the tests begin.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// A room is a queue in memory with a test around it.
type room struct {
	*testing.T
	Queue
	e    Engine
	disk *fault.Disk
	o    Options
}

func (e Engine) room(t *testing.T, o Options) *room {
	t.Helper()
	if o.Report == nil {
		o.Report = faults(t, "")
	}
	r := &room{T: t, e: e, disk: fault.NewDisk(), o: o}
	r.open()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *room) open() {
	r.Helper()
	q, err := r.e.Open(r.disk, "/queue", r.o)
	if err != nil {
		r.Fatal(err)
	}
	r.Queue = q
}

// reopen closes the queue and opens it again.
func (r *room) reopen() {
	r.Helper()
	if err := r.Close(); err != nil {
		r.Fatal(err)
	}
	r.open()
}

// put stores a letter from a@ours.example and returns its id.
func (r *room) put(text []byte, to ...string) string {
	r.Helper()
	return r.letter(NewLetter(noon, "<a@ours.example>", to...), text)
}

func (r *room) letter(l queue.Letter, text []byte) string {
	r.Helper()
	if n, err := r.Put(r.Context(), l, bytes.NewReader(text)); err != nil || n != int64(len(text)) {
		r.Fatalf("Put: %d, %v; want %d", n, err, len(text))
	}
	return l.ID
}

func (r *room) lease(a queue.Ask) []queue.Lease {
	r.Helper()
	if a.Owner == "" {
		a.Owner = "tester"
	}
	if a.Now.IsZero() {
		a.Now = noon
	}
	if a.Until.IsZero() {
		a.Until = a.Now.Add(time.Minute)
	}
	if a.Max == 0 {
		a.Max = 1000
	}
	list, err := r.Lease(r.Context(), a)
	if err != nil {
		r.Fatal(err)
	}
	return list
}

// all returns the same outcome for all deliveries of a lease.
func all(l queue.Lease, o queue.Outcome) []queue.Outcome {
	var list []queue.Outcome
	for _, w := range l.Which {
		o.Which = w
		list = append(list, o)
	}
	return list
}

func (r *room) settle(l queue.Lease, wantLeft int, outcomes ...queue.Outcome) {
	r.Helper()
	left, err := r.Settle(r.Context(), l, outcomes...)
	if err != nil || left != wantLeft {
		r.Fatalf("Settle %s: %d left, %v; want %d", l.Message.ID, left, err, wantLeft)
	}
}

func (r *room) show(id string) queue.Message {
	r.Helper()
	m, err := r.Show(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	return m
}

func (r *room) state(id string, want queue.State) {
	r.Helper()
	if m := r.show(id); m.State != want {
		r.Fatalf("state %v, want %v", m.State, want)
	}
}

// body returns the body of a message, or the error that it ended with.
func body(ctx context.Context, q queue.Queue, id string) ([]byte, error) {
	f, err := q.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func (r *room) gone(id string) {
	r.Helper()
	if _, err := r.Show(r.Context(), id); !errors.Is(err, queue.ErrNoSuchID) {
		r.Errorf("Show of what is gone: %v", err)
	}
	if _, err := r.Open(r.Context(), id); !errors.Is(err, queue.ErrNoSuchID) {
		r.Errorf("Open of what is gone: %v", err)
	}
}

// reports collects what a queue reports.
type reports struct {
	mu   sync.Mutex
	list []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, err)
}

// destinations returns where leases go.
func destinations(list []queue.Lease) []string {
	var names []string
	for _, l := range list {
		names = append(names, l.Destination)
	}
	return names
}
