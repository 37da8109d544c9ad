package pebble

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/fault"
)

// While the store is opened errors pass. After that the first makes the fence
// fall, and then nothing reaches the disk, and all seems well.
func TestFence(t *testing.T) {
	disk := fault.NewDisk()
	f := newFence(disk)
	file, err := f.Create("a", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	disk.Fail(fault.Plan{What: fault.Changes, Times: 2, Err: fault.ErrIO})
	if _, err := file.Write([]byte("x")); !errors.Is(err, fault.ErrIO) || f.down() {
		t.Errorf("while opening: %v, down %v", err, f.down())
	}
	f.raise()
	if n, err := file.Write([]byte("first")); n != 5 || err != nil || !f.down() || !errors.Is(f.reason(), fault.ErrIO) {
		t.Errorf("the write that fails: %d, %v, down %v because %v", n, err, f.down(), f.reason())
	}
	b, errB := f.Create("b", vfs.WriteCategoryUnspecified)
	if errB != nil {
		t.Fatal(errB)
	}
	for name, do := range map[string]func() error{
		"write":     func() error { _, err := file.Write([]byte("second")); return err },
		"sync":      file.Sync,
		"sync data": file.SyncData,
		"sync to":   func() error { _, err := file.SyncTo(3); return err },
		"reserve":   func() error { return file.Preallocate(0, 10) },
		"write b":   func() error { _, err := b.Write([]byte("third")); return err },
		"rename":    func() error { return f.Rename("a", "c") },
		"link":      func() error { return f.Link("a", "d") },
		"folder":    func() error { return f.MkdirAll("e", 0o700) },
		"remove":    func() error { return f.Remove("a") },
		"all":       func() error { return f.RemoveAll("/") },
		"close":     file.Close,
	} {
		if err := do(); err != nil {
			t.Errorf("%s behind a fallen fence: %v", name, err)
		}
	}
	if info, err := b.Stat(); err != nil || info.Size() != 5 {
		t.Errorf("a file that is none has size %v, %v", info, err)
	}
	names, err := disk.List("/")
	if err != nil || strings.Join(names, " ") != "a" {
		t.Errorf("the disk holds %q, %v; want only a", names, err)
	}
	a, err := disk.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(a); err != nil || len(text) > 0 {
		t.Errorf("%q, %v reached the disk", text, err)
	}
}
