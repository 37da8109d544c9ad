package pebble_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/fault"
	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
)

// places is in how many places each file is damaged in each way; more with
// POSTERN_DAMAGE=N.
func places(t *testing.T) int {
	s := os.Getenv("POSTERN_DAMAGE")
	if s == "" {
		return 4
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("POSTERN_DAMAGE=%s: %v", s, err)
	}
	return n
}

// A shelf is a store that is not open, and what must be in it: by id the text.
type shelf struct {
	disk vfs.FS
	must map[string][]byte
}

// filled returns a store with tables, blobs and logs: of messages that wait,
// are held, were tried, were delivered. killed: its process ended without a
// word.
func filled(t *testing.T, killed bool) shelf {
	t.Helper()
	disk := fault.NewDisk()
	s := shelf{disk: disk, must: map[string][]byte{}}
	for round := range 4 {
		q := open(t, disk, nil)
		for i := range 24 {
			l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
			size := []int{300, 1500, 0}[i%3]
			if i%8 == 0 {
				size = 2500 // in a blob
			}
			if i == 7 && os.Getenv("POSTERN_DAMAGE") != "" {
				size = pebble.ChunkSize + 1000 // the library takes ten seconds to say that one is damaged
			}
			text := queuetest.Text(uint64(round*100+i), size)
			if _, err := q.Put(t.Context(), l, bytes.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			s.must[l.ID] = text
		}
		list := lease(t, q)
		for i, l := range list {
			if i >= 12 {
				break
			}
			o := queue.Outcome{Which: l.Which[0], State: queue.Delivered, At: noon}
			if i%3 == 0 {
				o.State, o.Next = queue.Waiting, noon.Add(1<<40)
			} else {
				delete(s.must, l.Message.ID)
			}
			if _, err := q.Settle(t.Context(), l, o); err != nil {
				t.Fatal(err)
			}
		}
		if round == 3 && killed {
			s.disk = disk.PowerLoss(100, rand.New(rand.NewPCG(1, 2))) // nothing is lost: it is the process that went
			return s
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// copy returns a disk with the same store.
func (s shelf) copy(t *testing.T) *vfs.MemFS {
	t.Helper()
	disk := vfs.NewMem()
	for _, name := range []string{"/queue", "/queue.made"} {
		if ok, err := vfs.Clone(s.disk, disk, name, name); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	return disk
}

func content(t *testing.T, disk vfs.FS, path string) []byte {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func store(t *testing.T, disk vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(bytes.Clone(b)) // in memory it spoils them under the race detector
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Every message that was answered 250 is there, or its loss is told of: by
// verify, which does not say "whole"; by a start that refuses or reports; or by
// its id, when it is read. So it is with any one file flipped in an octet, cut
// or removed, wherever.
func TestNothingVanishesSilently(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			s := filled(t, killed)
			s.law(t, "nothing", s.copy(t), true)
			names, err := s.disk.List("/queue")
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(names)
			tried := map[string]int{}
			for _, name := range names {
				path := "/queue/" + name
				b := content(t, s.disk, path)
				kind := strings.Trim(name, "0123456789-")
				for what, damage := range damages(b, places(t)) {
					disk := s.copy(t)
					if damage == nil {
						if err := disk.Remove(path); err != nil {
							t.Fatal(err)
						}
					} else {
						store(t, disk, path, damage)
					}
					s.law(t, name+" "+what, disk, false)
					tried[kind]++
				}
			}
			t.Log(tried)
			for _, kind := range []string{"MANIFEST", "copy-of-MANIFEST", "OPTIONS", "ledger", ".log", ".sst", ".blob", "LOCK"} {
				if tried[kind] == 0 {
					t.Errorf("no file of the kind %s was damaged: %v", kind, slices.Sorted(maps.Keys(tried)))
				}
			}
		})
	}
}

// damages returns what a file may become: nil is its removal.
func damages(b []byte, n int) map[string][]byte {
	list := map[string][]byte{"removed": nil}
	end := len(bytes.TrimRight(b, "\x00")) // what is behind is room that was taken ahead
	for i := range min(n, end) {
		at := end * (2*i + 1) / (2 * n)
		flipped := bytes.Clone(b)
		flipped[at] ^= 0x15
		list[fmt.Sprintf("flipped at %d of %d", at, end)] = flipped
		if i%2 == 0 {
			list[fmt.Sprintf("cut at %d of %d", at, end)] = b[:at]
		}
	}
	return list
}

// A process that is killed while it writes a file leaves a part of it, which no
// start may take for damage: all is still in the log.
func TestKilledWhileAFileIsWritten(t *testing.T) {
	s := filled(t, true)
	names, err := s.copy(t).List("/queue")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, name := range names {
		kind := name[strings.LastIndexByte(name, '.')+1:]
		if kind != "blob" && kind != "sst" || tried > 8 {
			continue
		}
		tried++
		for _, cut := range []int{0, 1, 2} {
			disk := s.copy(t)
			b := content(t, disk, "/queue/"+name)
			store(t, disk, "/queue/990001."+kind, b[:len(b)*cut/3])
			s.law(t, fmt.Sprintf("a part of a %s, %d of %d octets", kind, len(b)*cut/3, len(b)), disk, kind == "blob") // salvage tells of such a table
			if sum, err := pebble.Verify(t.Context(), pebble.Options{Dir: "/queue", FS: disk}); err != nil || sum.Messages != len(s.must) {
				t.Errorf("verify: %v, %d messages of %d", err, sum.Messages, len(s.must))
			}
		}
	}
	if tried == 0 {
		t.Error("the store has neither blobs nor tables")
	}
}

// law holds one damaged store to the law. Where nothing is damaged, all must be
// there and nothing told.
func (s shelf) law(t *testing.T, what string, disk *vfs.MemFS, sound bool) {
	t.Helper()
	o := pebble.Options{Dir: "/queue", FS: disk}
	s.salvaged(t, what, disk, sound)
	sum, err := pebble.Verify(t.Context(), o)
	whole := err == nil && len(sum.Faults) == 0
	if whole && sum.Messages != len(s.must) {
		t.Errorf("%s: verify says whole, with %d messages of %d", what, sum.Messages, len(s.must))
	}
	if sound && !whole {
		t.Errorf("%s: verify: %v, %v", what, err, sum.Faults)
	}
	before, _ := disk.List("/queue")
	var said []error
	o.Report = func(err error) {
		if fatal, _ := problem.Split(err); fatal != nil {
			said = append(said, err)
		}
	}
	q, err := pebble.Open(o)
	if err != nil {
		if whole {
			t.Errorf("%s: verify says whole, and the start is refused: %v", what, err)
		}
		for _, name := range before {
			if _, err := disk.Stat("/queue/" + name); err != nil && !strings.HasPrefix(name, "MANIFEST") {
				t.Errorf("%s: a start that was refused removed %s", what, name)
			}
		}
		return
	}
	defer func() { _ = q.Close() }()
	after, _ := disk.List("/queue")
	for _, name := range after {
		if strings.Contains(name, "new") {
			t.Errorf("%s: the start left %s behind", what, name)
		}
	}
	if sound && len(said) > 0 {
		t.Errorf("%s: reported %v", what, said)
	}
	for id, text := range s.must {
		got, err := read(t.Context(), q, id)
		switch {
		case err == nil && !bytes.Equal(got, text):
			t.Errorf("%s: %s has another text", what, id)
		case errors.Is(err, queue.ErrNoSuchID) && len(said) == 0:
			t.Errorf("%s: %s is gone, and nobody said so; verify said whole: %v", what, id, whole)
		case err != nil && whole:
			t.Errorf("%s: %s: %v; and verify said whole", what, id, err)
		}
	}
}

// salvaged asks that a salvage brings each message out, or names it.
func (s shelf) salvaged(t *testing.T, what string, disk *vfs.MemFS, sound bool) {
	t.Helper()
	got, err := pebble.Salvage(t.Context(), pebble.Options{Dir: "/queue", FS: disk}, "/saved")
	if err != nil {
		t.Errorf("%s: salvage: %v", what, err)
		return
	}
	q, err := pebble.Open(pebble.Options{Dir: "/saved", FS: disk, Report: func(err error) { t.Errorf("%s: what was salvaged: %v", what, err) }})
	if err != nil {
		t.Errorf("%s: what was salvaged: %v", what, err)
		return
	}
	defer func() { _ = q.Close() }()
	if sum, err := q.Verify(t.Context()); err != nil || len(sum.Faults) > 0 || sum.Messages != got.Messages {
		t.Errorf("%s: what was salvaged: %+v, %v", what, sum, err)
	}
	lost := map[string]string{}
	for _, l := range got.Lost {
		lost[l.ID] = l.Why
	}
	for id, text := range s.must {
		b, err := read(t.Context(), q, id)
		if lost[id] == "" && (err != nil || !bytes.Equal(b, text)) {
			t.Errorf("%s: salvage neither brought %s out nor named it: %v; %v", what, id, err, got.Notes)
		}
	}
	if sound && (len(lost) > 0 || len(got.Notes) > 0 || got.Messages != len(s.must)) {
		t.Errorf("%s: salvaged %+v", what, got)
	}
	most := len(s.must) / 2
	if len(lost) > most {
		t.Errorf("%s: salvage lost %d of %d: %v; %v", what, len(lost), len(s.must), got.Lost[0], got.Notes)
	}
}

func read(ctx context.Context, q *pebble.Queue, id string) ([]byte, error) {
	f, err := q.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
