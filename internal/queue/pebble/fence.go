package pebble

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A fence stands between one opening of the library's database and the disk,
// and falls at the first write, sync or change of a name that fails.
//
// The library ends the process, or panics with its locks held, when its log
// cannot be written: it has no way to go on. We have one: to throw that
// opening away, to tell every client 451, and to open again from what is
// surely on the disk. So that the library lets us, after the fall the fence
// says yes to everything and does nothing. No write, no removal and no rename
// of the fallen opening reaches the disk any more, its memory is never
// believed (see store.commit), and it can be closed in peace.
//
// While the database is being opened nothing is pretended: errors pass.
type fence struct {
	vfs.FS
	fallen chan struct{} // closed at the fall
	mu     sync.Mutex
	up     bool // the opening is over: from now on an error makes the fence fall
	why    error
	ledger atomic.Pointer[ledger] // what is synced beside the library's log; nil: nothing yet
}

func newFence(fs vfs.FS) *fence { return &fence{FS: fs, fallen: make(chan struct{})} }

// raise ends the opening.
func (f *fence) raise() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = true
}

// down reports whether the fence fell.
func (f *fence) down() bool {
	select {
	case <-f.fallen:
		return true
	default:
		return false
	}
}

// reason returns what made the fence fall, or nil while it stands.
func (f *fence) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// fall makes the fence fall if it stands, and reports whether it lies now.
// The first reason is kept.
func (f *fence) fall(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.up && f.why == nil {
		f.why = err
		close(f.fallen)
	}
	return f.up
}

// try makes a change of the disk, or pretends to: done is false then.
func (f *fence) try(change func() error) (done bool, err error) {
	if f.down() {
		return false, nil
	}
	if err = change(); err != nil && f.fall(err) {
		return false, nil
	}
	return err == nil, err
}

func (f *fence) only(change func() error) error {
	_, err := f.try(change)
	return err
}

func (f *fence) file(name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	done, err := f.try(func() (err error) { file, err = open(); return err })
	switch {
	case err != nil:
		return nil, err
	case !done:
		return &sink{File: vfs.NewMemFile(nil)}, nil
	}
	made := &fenced{File: file, fence: f}
	if strings.HasSuffix(name, ".log") {
		return &log{fenced: made}, nil
	}
	return made, nil
}

// Create makes a file; a MANIFEST gets a twin.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.file(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
	dir, base := f.PathDir(name), f.PathBase(name)
	if err != nil || !strings.HasPrefix(base, manifestPrefix) {
		return file, err
	}
	second, err := f.file(name, func() (vfs.File, error) { return f.FS.Create(f.PathJoin(dir, twinOf(base)), c) })
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &twins{File: file, second: second}, nil
}

func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fence) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(name, func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, c) })
}

// OpenDir opens a folder, whose sync makes names stable.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	return f.file("", func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *fence) Link(old, name string) error {
	return f.only(func() error { return f.FS.Link(old, name) })
}

func (f *fence) Rename(old, name string) error {
	return f.only(func() error { return f.FS.Rename(old, name) })
}

func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	return f.only(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Remove and RemoveAll do not make the fence fall: what should be gone and is
// not costs room and nothing else.
func (f *fence) Remove(name string) error {
	if f.down() {
		return nil
	}
	dir, base := f.PathDir(name), f.PathBase(name)
	if strings.HasPrefix(base, manifestPrefix) {
		if err := f.FS.Remove(f.PathJoin(dir, twinOf(base))); err != nil && !isMissing(err) {
			return err
		}
	}
	return f.FS.Remove(name)
}

func (f *fence) RemoveAll(name string) error {
	if f.down() {
		return nil
	}
	return f.FS.RemoveAll(name)
}

func (f *fence) Unwrap() vfs.FS { return f.FS }

// fenced is a file that was opened while the fence stood.
type fenced struct {
	vfs.File
	fence *fence
}

func (f *fenced) Write(p []byte) (int, error) {
	n := len(p)
	done, err := f.fence.try(func() (err error) { n, err = f.File.Write(p); return err })
	if err == nil && !done {
		n = len(p)
	}
	return n, err
}

func (f *fenced) WriteAt(p []byte, at int64) (int, error) {
	n := len(p)
	done, err := f.fence.try(func() (err error) { n, err = f.File.WriteAt(p, at); return err })
	if err == nil && !done {
		n = len(p)
	}
	return n, err
}

func (f *fenced) Sync() error     { return f.fence.only(f.File.Sync) }
func (f *fenced) SyncData() error { return f.fence.only(f.File.SyncData) }

func (f *fenced) SyncTo(length int64) (full bool, err error) {
	err = f.fence.only(func() (err error) { full, err = f.File.SyncTo(length); return err })
	return full, err
}

// Preallocate is a hint: a disk that is full says so at the write.
func (f *fenced) Preallocate(at, length int64) error {
	if f.fence.down() {
		return nil
	}
	return f.File.Preallocate(at, length)
}

// Close of a file whose writes are stable already loses nothing by failing.
func (f *fenced) Close() error {
	if err := f.File.Close(); err != nil && !f.fence.down() {
		return err
	}
	return nil
}

// A log is one that the library commits to. The ledger is synced beside it.
type log struct {
	*fenced
	at, ready int64 // octets written, and those that have their place on the disk
}

// logStep is how much of a log has its place on the disk before it is written.
// The library would take a tenth more than its largest table in memory for each
// log, however little comes, and so could fill a small disk with nothing.
const logStep = 4 << 20

// Preallocate does nothing: Write does it.
func (l *log) Preallocate(int64, int64) error { return nil }

func (l *log) Write(p []byte) (int, error) {
	l.at += int64(len(p))
	for l.ready < l.at {
		if err := l.fenced.Preallocate(l.ready, logStep); err != nil {
			break // a hint, and no more
		}
		l.ready += logStep
	}
	return l.fenced.Write(p)
}

func (l *log) Sync() error     { return l.beside(l.File.Sync) }
func (l *log) SyncData() error { return l.beside(l.File.SyncData) }

// beside syncs the log and the ledger at the same time.
func (l *log) beside(sync func() error) error {
	book := l.fence.ledger.Load()
	if book == nil {
		return l.fence.only(sync)
	}
	other := make(chan error, 1)
	go func() { other <- book.sync() }()
	return errors.Join(l.fence.only(sync), <-other)
}

// Twins are a file of which there is a copy beside it. Of the MANIFEST, which
// says what all other files are, the library keeps only one, and takes what
// cannot be read of it for its end.
type twins struct {
	vfs.File
	second vfs.File
}

const manifestPrefix = "MANIFEST-"

// twinOf returns the name of a MANIFEST's copy, which the library does not know.
func twinOf(name string) string { return "copy-of-" + name }

func (t *twins) Write(p []byte) (int, error) {
	same := bytes.Clone(p) // a file may spoil what it has written
	n, err := t.File.Write(p)
	if err == nil {
		_, err = t.second.Write(same)
	}
	return n, err
}

func (t *twins) Sync() error     { return errors.Join(t.File.Sync(), t.second.Sync()) }
func (t *twins) SyncData() error { return errors.Join(t.File.SyncData(), t.second.SyncData()) }

func (t *twins) SyncTo(length int64) (full bool, err error) {
	if _, err = t.second.SyncTo(length); err != nil {
		return false, err
	}
	return t.File.SyncTo(length)
}

func (t *twins) Close() error { return errors.Join(t.File.Close(), t.second.Close()) }

// A sink takes what is written to a file that was made after the fall.
type sink struct {
	vfs.File
	n atomic.Int64
}

func (s *sink) Write(p []byte) (int, error) { s.n.Add(int64(len(p))); return len(p), nil }

func (s *sink) WriteAt(p []byte, _ int64) (int, error) { return s.Write(p) }

func (s *sink) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

func (s *sink) Stat() (vfs.FileInfo, error) {
	info, err := s.File.Stat()
	return sunk{info, s.n.Load()}, err
}

type sunk struct {
	vfs.FileInfo
	size int64
}

func (s sunk) Size() int64 { return s.size }
