package fault

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func write(t *testing.T, f vfs.File, text string, wantErr error) {
	t.Helper()
	if _, err := f.Write([]byte(text)); !errors.Is(err, wantErr) {
		t.Fatalf("write %q: got %v, want %v", text, err, wantErr)
	}
}

func create(t *testing.T, d *Disk, name string) vfs.File {
	t.Helper()
	f, err := d.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPlans(t *testing.T) {
	d := NewDisk()
	f := create(t, d, "a")
	d.Fail(Plan{What: Writes, After: 1, Times: 1, Err: ErrNoSpace})
	write(t, f, "one", nil)
	write(t, f, "two", ErrNoSpace)
	write(t, f, "three", nil)
	if n, failed := d.Seen(); n != 3 || failed != 1 {
		t.Errorf("seen %d, failed %d; want 3, 1", n, failed)
	}
	d.Fail(Plan{What: Syncs, Err: ErrIO})
	write(t, f, "four", nil)
	for range 2 {
		if err := f.Sync(); !errors.Is(err, ErrIO) {
			t.Errorf("sync: got %v, want %v", err, ErrIO)
		}
	}
	d.Fail(Plan{})
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}

func TestPowerLossKeepsWhatWasSynced(t *testing.T) {
	d := NewDisk()
	f := create(t, d, "a")
	write(t, f, "synced", nil)
	dir, err := d.OpenDir("/")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), dir.Sync()); err != nil {
		t.Fatal(err)
	}
	write(t, f, " and not", nil)
	for _, c := range []struct {
		percent int
		want    string
	}{{0, "synced"}, {100, "synced and not"}} {
		g, err := d.PowerLoss(c.percent, rand.New(rand.NewPCG(1, 1))).Open("a")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(g); err != nil || string(got) != c.want {
			t.Errorf("with %d %% of the rest: %q, %v; want %q", c.percent, got, err, c.want)
		}
	}
}
