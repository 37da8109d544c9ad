package pebble_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/fault"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
)

func open(t testing.TB, fs vfs.FS, report func(error)) *pebble.Queue {
	t.Helper()
	if report == nil {
		report = func(err error) { t.Errorf("reported: %v", err) }
	}
	q, err := pebble.Open(pebble.Options{Dir: "/queue", FS: fs, Report: report})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

func put(t testing.TB, q *pebble.Queue, size int) string {
	t.Helper()
	l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	if _, err := q.Put(t.Context(), l, bytes.NewReader(queuetest.Text(1, size))); err != nil {
		t.Fatal(err)
	}
	return l.ID
}

func keys(t *testing.T, q *pebble.Queue, want string) {
	t.Helper()
	n, err := q.Keys()
	got := fmt.Sprintf("m%d b%d p%d x%d", n['m'], n['b'], n['p'], n['x'])
	if err != nil || got != want {
		t.Errorf("the store holds %s, %v; want %s", got, err, want)
	}
}

func TestNothingIsLeftOfWhatWasRefused(t *testing.T) {
	q := open(t, vfs.NewMem(), nil)
	l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	errCut := errors.New("cut")
	text := bytes.NewReader(queuetest.Text(1, 5*pebble.ChunkSize/2))
	if _, err := q.Put(t.Context(), l, queuetest.Cut{Text: text, Err: errCut}); !errors.Is(err, errCut) {
		t.Errorf("Put: %v", err)
	}
	keys(t, q, "m0 b0 p0 x0")
	put(t, q, pebble.ChunkSize)
	keys(t, q, "m1 b1 p0 x0")
	put(t, q, 5*pebble.ChunkSize/2)
	keys(t, q, "m2 b4 p0 x0")
	list := lease(t, q)
	for _, l := range list {
		if _, err := q.Settle(t.Context(), l, queue.Outcome{Which: l.Which[0], State: queue.Delivered}); err != nil {
			t.Error(err)
		}
	}
	keys(t, q, "m0 b0 p0 x0")
}

func lease(t *testing.T, q *pebble.Queue) []queue.Lease {
	t.Helper()
	list, err := q.Lease(t.Context(), queue.Ask{Owner: "t", Now: noon, Until: noon.Add(time.Minute), Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A body that is cut off by a crash is swept at the next start.
func TestOrphansAreSwept(t *testing.T) {
	disk := vfs.NewCrashableMem()
	q := open(t, disk, nil)
	whole := put(t, q, 3*pebble.ChunkSize)
	l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	var crashed *vfs.MemFS
	body := io.MultiReader(bytes.NewReader(queuetest.Text(1, 5*pebble.ChunkSize/2)), readerFunc(func([]byte) (int, error) {
		put(t, q, 10) // its sync also makes stable what is there of the other
		crashed = disk.CrashClone(vfs.CrashCloneCfg{})
		return 0, io.EOF
	}))
	if _, err := q.Put(t.Context(), l, body); err != nil {
		t.Fatal(err)
	}
	q = open(t, crashed, nil)
	keys(t, q, "m2 b4 p0 x0")
	if _, err := q.Show(t.Context(), l.ID); !errors.Is(err, queue.ErrNoSuchID) {
		t.Errorf("half a message is there: %v", err)
	}
	if _, err := q.Show(t.Context(), whole); err != nil {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is no record of a granted message never leaves, and stops nothing.
func TestDamagedRecordsAreMovedAside(t *testing.T) {
	id := func(n int) string { return fmt.Sprintf("00000000000000%02d", n) }
	plain := messages(t)["plain"]
	granted := func(n int, grant bool) []byte {
		m := plain
		m.ID = id(n)
		if !grant {
			m.To = []queue.Recipient{m.To[0]}
			m.To[0].Grant.Reason = ""
		}
		return pebble.Record(m, 0, 0)
	}
	for _, running := range []bool{false, true} {
		disk := vfs.NewMem()
		var mu sync.Mutex
		var said []string
		report := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, err.Error())
		}
		q := open(t, disk, report)
		good := put(t, q, 100)
		if running { // they are damaged after they were read
			for n := range 4 {
				l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
				l.ID = id(n)
				if _, err := q.Put(t.Context(), l, strings.NewReader("")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for k, v := range map[string][]byte{
			id(0): []byte("garbage"), id(1): granted(1, false), id(2): granted(9, true), id(3): granted(3, true)[:40],
		} {
			if err := q.SetValue("m"+k, v); err != nil {
				t.Fatal(err)
			}
		}
		want := 4
		if !running {
			if err := q.SetValue("mno id", []byte("x")); err != nil {
				t.Fatal(err)
			}
			want++
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			q = open(t, disk, report)
		}
		if list := lease(t, q); len(list) != 1 || list[0].Message.ID != good {
			t.Errorf("running %v: leased %d, want only the good one", running, len(list))
		}
		if s, err := q.Stats(t.Context()); err != nil || s.Corrupt != want || s.Messages[queue.Fresh]+s.Messages[queue.Active] != 1 {
			t.Errorf("running %v: %+v, %v", running, s, err)
		}
		if len(said) != want || !strings.Contains(strings.Join(said, "\n"), `message "`+id(1)+`" is moved aside and not delivered: not a record of a message: a recipient without a grant; restore it from a backup, or delete it`) {
			t.Errorf("running %v: reported %q", running, said)
		}
		keys(t, q, fmt.Sprintf("m1 b1 p0 x%d", want))
		if v, err := q.Value("x" + id(0)); err != nil || string(v) != "garbage" {
			t.Errorf("what was moved aside is %q, %v", v, err)
		}
		if n, err := q.Delete(t.Context(), id(0), id(1), queue.NewID()); n != 2 || err != nil {
			t.Errorf("Delete of what was moved aside: %d, %v", n, err)
		}
		if s, err := q.Stats(t.Context()); err != nil || s.Corrupt != want-2 {
			t.Errorf("after Delete: %+v, %v", s, err)
		}
	}
}

func TestFormats(t *testing.T) {
	disk := vfs.NewMem()
	q := open(t, disk, nil)
	id := put(t, q, 100)
	close := func() {
		t.Helper()
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close()
	hold := func(r lib.Reader, b *lib.Batch) error {
		v, closer, err := r.Get([]byte("m" + id))
		if err != nil {
			return err
		}
		m, chunks, sum, err := pebble.ParseRecord(v)
		m.Hold += "+"
		return errors.Join(err, b.Set([]byte("m"+id), pebble.Record(m, chunks, sum), nil), closer.Close())
	}
	errStep := errors.New("the step failed")
	for _, c := range []struct {
		name  string
		steps []func(lib.Reader, *lib.Batch) error
		want  string // held because
		err   string
	}{
		{"as it is", nil, "", ""},
		{"one format later", []func(lib.Reader, *lib.Batch) error{hold}, "+", ""},
		{"the same again", []func(lib.Reader, *lib.Batch) error{hold}, "+", ""},
		{"a step that fails", []func(lib.Reader, *lib.Batch) error{hold, hold, func(lib.Reader, *lib.Batch) error { return errStep }}, "", "from format 5 to 6: the step failed"},
		{"went as far as it could", []func(lib.Reader, *lib.Batch) error{hold, hold}, "++", ""},
		{"an older program", []func(lib.Reader, *lib.Batch) error{hold}, "", "/queue: the queue has format 5, and this program knows only up to 4; start the newer program that wrote it, or restore a backup made before the upgrade"},
		{"several at once", []func(lib.Reader, *lib.Batch) error{hold, hold, hold, hold}, "++++", ""},
	} {
		undo := pebble.SetFormats(c.steps...)
		var err error
		q, err = pebble.Open(pebble.Options{Dir: "/queue", FS: disk})
		undo()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if m, err := q.Show(t.Context(), id); err != nil || m.Hold != c.want {
			t.Errorf("%s: held because %q, %v; want %q", c.name, m.Hold, err, c.want)
		}
		close()
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(*lib.DB) error
		want string
	}{
		{"a store that is no queue", func(db *lib.DB) error { return db.Set([]byte("k"), []byte("v"), lib.Sync) }, "it is not a queue"},
		{"a damaged format", func(db *lib.DB) error { return db.Set([]byte("f"), []byte("\xff"), lib.Sync) }, "format is damaged"},
		{"format 0", func(db *lib.DB) error { return db.Set([]byte("f"), []byte{0}, lib.Sync) }, "format is damaged"},
	} {
		disk := vfs.NewMem()
		db, err := lib.Open("/queue", &lib.Options{FS: disk, FormatMajorVersion: lib.FormatValueSeparation})
		if err == nil {
			err = errors.Join(c.make(db), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pebble.Open(pebble.Options{Dir: "/queue", FS: disk}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	disk := vfs.NewMem()
	open(t, disk, nil)
	if _, err := pebble.Open(pebble.Options{Dir: "/queue", FS: disk}); err == nil {
		t.Error("the same folder was opened twice")
	}
}

func TestClosed(t *testing.T) {
	q := open(t, vfs.NewMem(), nil)
	id := put(t, q, 100)
	body, err := q.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(q.Close(), q.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(body); !errors.Is(err, queue.ErrBroken) {
		t.Errorf("Read: %v", err)
	}
	if err := q.Room(0); !errors.Is(err, queue.ErrBroken) {
		t.Errorf("Room: %v", err)
	}
	if err := q.Run(t.Context()); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := q.Lease(t.Context(), queue.Ask{Max: 1}); !errors.Is(err, queue.ErrBroken) {
		t.Errorf("Lease: %v", err)
	}
}

// A message of which a part went to a store that failed is not accepted by the
// store that was opened after it.
func TestPutOverAFailure(t *testing.T) {
	disk := fault.NewDisk()
	q := open(t, disk, func(error) {})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = q.Run(ctx) })
	defer running.Wait()
	defer cancel()
	l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	text := bytes.NewReader(queuetest.Text(1, 2*pebble.ChunkSize))
	_, err := q.Put(ctx, l, io.MultiReader(text, readerFunc(func([]byte) (int, error) {
		disk.Fail(fault.Plan{What: fault.Syncs, Times: 1, Err: fault.ErrIO})
		if _, err := q.Put(ctx, queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>"), strings.NewReader("")); !errors.Is(err, queue.ErrBroken) || !errors.Is(err, fault.ErrIO) {
			t.Errorf("a put whose sync failed: %v", err)
		}
		for q.Room(0) != nil {
			<-q.Changed()
		}
		return 0, io.EOF
	})))
	if !errors.Is(err, queue.ErrBroken) {
		t.Errorf("got %v, want %v", err, queue.ErrBroken)
	}
	keys(t, q, "m0 b0 p0 x0")
}

// What is being delivered while the store is opened again is settled as if
// nothing had happened, and read to its end.
func TestLeasesOutliveAFailure(t *testing.T) {
	disk := fault.NewDisk()
	q := open(t, disk, func(error) {})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = q.Run(ctx) })
	defer running.Wait()
	defer cancel()
	id := put(t, q, 3*pebble.ChunkSize)
	l := lease(t, q)[0]
	body, err := q.Open(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 100)
	if _, err := io.ReadFull(body, first); err != nil {
		t.Fatal(err)
	}
	disk.Fail(fault.Plan{What: fault.Changes, Times: 1, Err: fault.ErrIO})
	if n, err := q.Hold(ctx, "why", id); n == 1 && err == nil {
		t.Fatal("the disk does not fail")
	}
	for q.Room(0) != nil {
		<-q.Changed()
	}
	if list := lease(t, q); len(list) != 0 {
		t.Error("what is being delivered was given out again")
	}
	rest, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(slices.Concat(first, rest), queuetest.Text(1, 3*pebble.ChunkSize)) {
		t.Errorf("the body over the failure: %d octets, %v", len(rest), err)
	}
	if left, err := q.Settle(ctx, l, queue.Outcome{Which: l.Which[0], State: queue.Delivered}); left != 0 || err != nil {
		t.Errorf("Settle: %d, %v", left, err)
	}
}

// While the disk fails, the store is opened again after pauses that grow to
// half a minute.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := fault.NewDisk()
		start := time.Now()
		var mu sync.Mutex
		var tries []time.Duration
		q, err := pebble.Open(pebble.Options{Dir: "/queue", FS: disk, Report: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(err.Error(), "next try in") {
				tries = append(tries, time.Since(start))
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = q.Run(ctx) })
		disk.Fail(fault.Plan{What: fault.Changes, Err: fault.ErrIO})
		if _, err := q.Put(ctx, queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>"), strings.NewReader("")); !errors.Is(err, queue.ErrBroken) {
			t.Errorf("Put: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if err := q.Room(0); !errors.Is(err, queue.ErrBroken) {
			t.Errorf("Room: %v", err)
		}
		mu.Lock()
		ms := time.Millisecond
		want := []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 12700 * ms, 25500 * ms, 51100 * ms, 81100 * ms, 111100 * ms}
		if !reflect.DeepEqual(tries, want) {
			t.Errorf("tried after %v, want %v", tries, want)
		}
		mu.Unlock()
		disk.Fail(fault.Plan{})
		time.Sleep(31 * time.Second)
		if err := q.Room(0); err != nil {
			t.Errorf("Room after the disk was mended: %v", err)
		}
		cancel()
		running.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestBackup(t *testing.T) {
	disk := fault.NewDisk()
	q := open(t, disk, nil)
	var ids []string
	for _, size := range []int{0, 3000, 3 * pebble.ChunkSize} {
		ids = append(ids, put(t, q, size))
	}
	was := put(t, q, 10)
	if n, err := q.Delete(t.Context(), was); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := q.Backup(t.Context(), "/backup"); err != nil {
		t.Fatal(err)
	}
	if err := q.Backup(t.Context(), "/backup"); err == nil || problem.All(err)[0].Do == "" {
		t.Errorf("a backup over a backup: %v", err)
	}
	if n, err := q.Delete(t.Context(), ids...); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	put(t, q, 10)
	if err := pebble.Restore(t.Context(), pebble.Options{Dir: "/queue", FS: disk}, "/backup"); err == nil {
		t.Error("a restore over a queue")
	}
	if err := pebble.Restore(t.Context(), pebble.Options{Dir: "/new", FS: disk}, "/nothing"); err == nil {
		t.Error("a restore of nothing")
	}
	if err := pebble.Restore(t.Context(), pebble.Options{Dir: "/new", FS: disk}, "/backup"); err != nil {
		t.Fatal(err)
	}
	// What was restored survives that the power goes now.
	again, err := pebble.Open(pebble.Options{Dir: "/new", FS: disk.PowerLoss(0, nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if sum, err := again.Verify(t.Context()); err != nil || len(sum.Faults) > 0 || sum.Messages != 3 || sum.Lives != 1 || sum.Octets != 3000+3*pebble.ChunkSize {
		t.Errorf("the restored queue: %+v, %v", sum, err)
	}
	if l, err := again.Life(t.Context(), was); err != nil || l.Done.IsZero() || len(l.Events) != 1 {
		t.Errorf("the life of %s: %+v, %v", was, l, err)
	}
	for _, id := range ids {
		if _, err := again.Show(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestVerifyFinds(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(id string) (key string, value []byte)
		want   string
	}{
		{"nothing", func(string) (string, []byte) { return "none", nil }, ""},
		{"a damaged record", func(id string) (string, []byte) { return "m" + id, []byte("x") }, "not a record"},
		{"a missing record", func(id string) (string, []byte) { return "m" + id, nil }, "a body without a record"},
		{"a missing part", func(id string) (string, []byte) { return "b" + id + "\x00\x00\x00\x01", nil }, "part 1 of the body is missing"},
		{"a missing end", func(id string) (string, []byte) { return "b" + id + "\x00\x00\x00\x02", nil }, "the body is not what was stored"},
		{"another text", func(id string) (string, []byte) {
			return "b" + id + "\x00\x00\x00\x00", bytes.Repeat([]byte("x"), pebble.ChunkSize)
		}, "the body is not what was stored"},
	} {
		q := open(t, vfs.NewMem(), nil)
		put(t, q, 100)
		id := put(t, q, 3*pebble.ChunkSize)
		put(t, q, 100)
		k, v := c.damage(id)
		if err := q.SetValue(k, v); err != nil {
			t.Fatal(err)
		}
		sum, err := q.Verify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := errors.Join(sum.Faults...)
		if c.want == "" && found != nil || c.want != "" && (found == nil || !strings.Contains(found.Error(), c.want) || !strings.Contains(found.Error(), id)) {
			t.Errorf("%s: found %v, want %q", c.name, found, c.want)
		}
		if c.want == "" || strings.Contains(c.want, "record") {
			continue
		}
		body, err := q.Open(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); err == nil {
			t.Errorf("%s: the body was read to its end", c.name)
		}
	}
}
