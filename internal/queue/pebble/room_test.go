package pebble_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
)

// usedBy returns the octets of the files in a folder.
func usedBy(disk vfs.FS, dir string) (n uint64) {
	names, _ := disk.List(dir)
	for _, name := range names {
		if info, err := disk.Stat(disk.PathJoin(dir, name)); err == nil {
			n += uint64(info.Size())
		}
	}
	return n
}

// Mail comes in until there is no room. Then all of it leaves, in whatever way,
// and there is room again, though nothing new comes that would make the library
// tidy up.
func TestFullEmptiedTakesMailAgain(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, q *pebble.Queue, ids []string){
		"deleted": func(t *testing.T, q *pebble.Queue, ids []string) {
			if n, err := q.Delete(t.Context(), ids...); err != nil || n != len(ids) {
				t.Fatal(n, err)
			}
		},
		"delivered": func(t *testing.T, q *pebble.Queue, _ []string) { settleAll(t, q, queue.Delivered) },
		"refused":   func(t *testing.T, q *pebble.Queue, _ []string) { settleAll(t, q, queue.Failed) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.NewMem()
				const total = 300 << 20
				q, err := pebble.Open(pebble.Options{Dir: "/queue", FS: disk, Usage: func() (uint64, uint64, error) {
					return total - min(usedBy(disk, "/queue"), total), total, nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = q.Close() }()
				var ids []string
				text := queuetest.Text(1, 8_000_000)
				for refused := 0; refused < 2; { // at first, some of what is taken is not needed
					l := queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>")
					_, err := q.Put(t.Context(), l, bytes.NewReader(text))
					switch {
					case err == nil:
						ids, refused = append(ids, l.ID), 0
					case errors.Is(err, queue.ErrFull):
						refused++
						time.Sleep(2 * time.Minute)
					default:
						t.Fatal(err)
					}
				}
				if len(ids) < 3 {
					t.Fatalf("full after %d messages", len(ids))
				}
				leave(t, q, ids)
				_ = q.Room(8_000_000)
				time.Sleep(2 * time.Minute)
				_ = q.Room(8_000_000)
				time.Sleep(2 * time.Minute)
				if err := q.Room(8_000_000); err != nil {
					t.Errorf("%d octets are taken after all has left: %v", usedBy(disk, "/queue"), err)
				}
			})
		})
	}
}

func settleAll(t *testing.T, q *pebble.Queue, state queue.DeliveryState) {
	t.Helper()
	for _, l := range lease(t, q) {
		if _, err := q.Settle(t.Context(), l, queue.Outcome{Which: l.Which[0], State: state, At: noon}); err != nil {
			t.Fatal(err)
		}
	}
}

// A start with less room than is kept free says so, before a client is refused;
// and when there is more, that too is told, but not at each step to and fro.
func TestStartWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := uint64(200 << 20)
		var said []string
		q, err := pebble.Open(pebble.Options{
			Dir: "/queue", FS: vfs.NewMem(), Usage: func() (uint64, uint64, error) { return free, 600 << 20, nil },
			Report: func(err error) { said = append(said, err.Error()) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = q.Close() }()
		for range 10 {
			free = 500 << 20
			if err := q.Room(0); err != nil {
				t.Errorf("with more room: %v", err)
			}
			free = 200 << 20
			if err := q.Room(0); !errors.Is(err, queue.ErrFull) {
				t.Errorf("with less room: %v", err)
			}
		}
		time.Sleep(2 * time.Minute)
		free = 500 << 20
		_ = q.Room(0)
		want := []string{
			"/queue: warning: the disk has 200 MiB free of 600 MiB, and 256 MiB are kept free for the queue's own work: all mail is answered 452 until there is more; make room, or put the state on a larger disk",
			"/queue: warning: the disk has 500 MiB free of 600 MiB, and 256 MiB are kept free for the queue's own work: mail is taken again",
		}
		if !slices.Equal(said, want) {
			t.Errorf("reported %q, want %q", said, want)
		}
	})
}

// While the folder is gone no mail is taken and no other is made in its place,
// though the relay could; when it comes back, so does the queue.
func TestFolderGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir() + "/queue"
		q, err := pebble.Open(pebble.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = q.Close() }()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = q.Run(ctx) })
		defer running.Wait()
		defer cancel()
		id := put(t, q, 3000)
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := q.Room(0); !errors.Is(err, queue.ErrBroken) {
			t.Errorf("Room while the folder is away: %v", err)
		}
		_ = q.Flush() // needs a new file
		time.Sleep(time.Minute)
		if _, err := q.Put(ctx, queuetest.NewLetter(noon, "<a@ours.example>", "<b@far.example>"), strings.NewReader("")); !errors.Is(err, queue.ErrBroken) {
			t.Errorf("Put while the folder is away: %v", err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("a folder was made")
		}
		// Neither is another one taken for it.
		other, err := pebble.Open(pebble.Options{Dir: t.TempDir() + "/other"})
		if err == nil {
			err = errors.Join(other.Backup(ctx, dir), other.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := q.Room(0); !errors.Is(err, queue.ErrBroken) {
			t.Errorf("Room with another store in the folder: %v", err)
		}
		if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".away", dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := q.Room(0); err != nil {
			t.Errorf("Room with the folder back: %v", err)
		}
		if _, err := q.Show(ctx, id); err != nil {
			t.Error(err)
		}
	})
}

// An empty queue is made only where nothing says that there was one.
func TestWhatIsGoneIsNotBegunAnew(t *testing.T) {
	disk := vfs.NewMem()
	q := open(t, disk, nil)
	id := put(t, q, 100)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	s := shelf{disk: disk}
	for name, take := range map[string]func(disk vfs.FS, name string) bool{
		"the folder":                         nil,
		"all files":                          func(vfs.FS, string) bool { return true },
		"all but the ledger":                 func(_ vfs.FS, name string) bool { return name != "ledger" },
		"all but logs":                       func(_ vfs.FS, name string) bool { return !strings.HasSuffix(name, ".log") },
		"all that names the MANIFEST and it": func(_ vfs.FS, name string) bool { return strings.Contains(name, "MANIFEST") },
		"the ledger and the logs":            func(_ vfs.FS, name string) bool { return name == "ledger" || strings.HasSuffix(name, ".log") },
	} {
		disk := s.copy(t)
		names, err := disk.List("/queue")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range names {
			if take == nil || take(disk, file) {
				if err := disk.Remove("/queue/" + file); err != nil {
					t.Fatal(err)
				}
			}
		}
		if take == nil {
			if err := disk.Remove("/queue"); err != nil {
				t.Fatal(err)
			}
		}
		var said []error
		q, err := pebble.Open(pebble.Options{Dir: "/queue", FS: disk, Report: func(err error) { said = append(said, err) }})
		if err != nil {
			continue
		}
		if _, err := q.Show(t.Context(), id); err != nil && len(said) == 0 {
			t.Errorf("without %s: begun anew, and nobody was told: %v", name, err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}
