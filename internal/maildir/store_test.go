package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"postern/mail"
)

func forward(t testing.TB, s string) mail.ForwardPath {
	t.Helper()
	p, err := mail.ParseForwardPath("<" + s + ">")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reverse(t testing.TB, s string) mail.ReversePath {
	t.Helper()
	p, err := mail.ParseReversePath("<" + s + ">")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func template(t testing.TB, s string) Template {
	t.Helper()
	p, err := ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func opened(t testing.TB, s string, o Options) *Store {
	t.Helper()
	store, err := Open(template(t, s), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// messages returns what stands in a folder, sorted.
func messages(t testing.TB, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(b))
	}
	slices.Sort(list)
	return list
}

func TestDeliver(t *testing.T) {
	for _, c := range []struct {
		name, from, to, body, want string
	}{
		{"a message", "b@c.example", "anna@d.example", "A: b\r\n\r\nx\r\n", "Return-Path: <b@c.example>\nDelivered-To: anna@d.example\nA: b\n\nx\n"},
		{"a notice", "", "anna@d.example", "A: b\r\n\r\nx\r\n", "Return-Path: <>\nDelivered-To: anna@d.example\nA: b\n\nx\n"},
		{"LF as it is", "", "anna@d.example", "A: b\n\nx\n", "Return-Path: <>\nDelivered-To: anna@d.example\nA: b\n\nx\n"},
		{"CR as it is", "", "anna@d.example", "\rA\r\r\nb\r", "Return-Path: <>\nDelivered-To: anna@d.example\n\rA\r\nb\r"},
		{"the address as written", "", "Anna+List@D.example", "x", "Return-Path: <>\nDelivered-To: Anna+List@D.example\nx"},
	} {
		for _, cut := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
			base := t.TempDir()
			s := opened(t, base+"/{domain}/{local}/Maildir", Options{Host: "mx.d.example", Separator: "+"})
			if err := s.Deliver(t.Context(), reverse(t, c.from), forward(t, c.to), cut(strings.NewReader(c.body))); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			folder := filepath.Join(base, "d.example", "anna", "Maildir")
			if got := messages(t, filepath.Join(folder, "new")); len(got) != 1 || got[0] != c.want {
				t.Errorf("%s:\n%q, want\n%q", c.name, got, c.want)
			}
			for _, name := range []string{"", "new", "cur", "tmp"} {
				info, err := os.Stat(filepath.Join(folder, name))
				if err != nil || info.Mode() != fs.ModeDir|0o700 {
					t.Errorf("%s: %v %v", name, info.Mode(), err)
				}
			}
			if left := messages(t, filepath.Join(folder, "tmp")); len(left) > 0 {
				t.Errorf("%s: left in tmp: %q", c.name, left)
			}
			entries, _ := os.ReadDir(filepath.Join(folder, "new"))
			if name := entries[0].Name(); !regexp.MustCompile(`^\d+\.M\d{6}P\d+Q1R[0-9a-f]{16}\.mx\.d\.example$`).MatchString(name) {
				t.Errorf("%s: the name %s", c.name, name)
			}
			if info, err := entries[0].Info(); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: %v %v", c.name, info.Mode(), err)
			}
		}
	}
}

func TestTheNameOfAHostIsEscaped(t *testing.T) {
	base := t.TempDir()
	s := opened(t, base+"/box", Options{Host: "a/b:c"})
	if err := s.Deliver(t.Context(), mail.NullPath(), forward(t, "x@d.example"), strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(filepath.Join(base, "box", "new"))
	if len(entries) != 1 || !strings.HasSuffix(entries[0].Name(), `.a\057b\072c`) {
		t.Errorf("%v", entries)
	}
}

// TestStaleFilesAreRemoved from tmp/, and nothing else.
func TestStaleFilesAreRemoved(t *testing.T) {
	base := t.TempDir()
	tmp := filepath.Join(base, "box", "tmp")
	if err := os.MkdirAll(filepath.Join(tmp, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": 37 * time.Hour, "young": 35 * time.Hour, "../old": 37 * time.Hour, "folder": 99 * time.Hour} {
		file := filepath.Join(tmp, name)
		if name != "folder" {
			if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	s := opened(t, base+"/box", Options{})
	if err := s.Deliver(t.Context(), mail.NullPath(), forward(t, "x@d.example"), strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"old": false, "young": true, "../old": true, "folder": true} {
		if _, err := os.Lstat(filepath.Join(tmp, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}

// TestNoLinkLeadsOut: who can write below the folder cannot have us write
// elsewhere.
func TestNoLinkLeadsOut(t *testing.T) {
	for _, link := range []string{"d.example", "d.example/anna", "d.example/anna/new", "d.example/anna/tmp"} {
		base, outside := t.TempDir(), t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(base, link)), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"anna/new", "anna/tmp", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(outside, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(outside, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
		s := opened(t, base+"/{domain}/{local}", Options{})
		err := s.Deliver(t.Context(), mail.NullPath(), forward(t, "anna@d.example"), strings.NewReader("x"))
		var e *Error
		if !errors.As(err, &e) || !e.Reply.Transient() {
			t.Errorf("%s: %v", link, err)
		}
		err = filepath.WalkDir(outside, func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("%s: wrote %s", link, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyAtOnce: all arrive, each once and whole, also where the folder is
// made by the first of them.
func TestManyAtOnce(t *testing.T) {
	const workers, each = 8, 25
	base := t.TempDir()
	s := opened(t, base+"/{domain}/{local}", Options{})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				body := strings.Repeat(fmt.Sprintf("%d-%d\r\n", w, i), 3000)
				to := forward(t, fmt.Sprintf("u%d@d.example", i%2))
				if err := s.Deliver(t.Context(), mail.NullPath(), to, strings.NewReader(body)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, user := range []string{"u0", "u1"} {
		for _, m := range messages(t, filepath.Join(base, "d.example", user, "new")) {
			lines := strings.Split(strings.TrimSuffix(m, "\n"), "\n")[2:]
			if len(lines) != 3000 || len(slices.Compact(lines)) != 1 {
				t.Fatalf("%s: a message of %d lines", user, len(lines))
			}
			seen[lines[0]]++
		}
	}
	if len(seen) != workers*each {
		t.Errorf("%d messages of %d", len(seen), workers*each)
	}
}

var errCrash = errors.New("the process is gone")

// A faulty disk is a real one that keeps a log of what is done, and fails at
// one operation; if it crashes, at all that follow too.
type faulty struct {
	disk
	log     []string
	at      int // from 1; 0: never
	err     error
	crashes bool
}

func (d *faulty) do(what string) error {
	d.log = append(d.log, regexp.MustCompile(`\d+\.M\w+\.localhost`).ReplaceAllString(what, "NAME"))
	if d.at > 0 && (len(d.log) == d.at || len(d.log) > d.at && d.crashes) {
		return d.err
	}
	return nil
}

func (d *faulty) Mkdir(name string) error {
	if err := d.do("mkdir " + name); err != nil {
		return err
	}
	return d.disk.Mkdir(name)
}

func (d *faulty) Create(name string) (file, error) {
	if err := d.do("create " + name); err != nil {
		return nil, err
	}
	f, err := d.disk.Create(name)
	return &faultyFile{f, d}, err
}

func (d *faulty) Rename(from, to string) error {
	if err := d.do("rename " + from + " " + to); err != nil {
		return err
	}
	return d.disk.Rename(from, to)
}

func (d *faulty) Remove(name string) error {
	if err := d.do("remove " + name); err != nil {
		return err
	}
	return d.disk.Remove(name)
}

func (d *faulty) Sync(folder string) error {
	if err := d.do("sync " + folder); err != nil {
		return err
	}
	return d.disk.Sync(folder)
}

func (d *faulty) List(folder string, most int) ([]fs.FileInfo, error) {
	if err := d.do("list " + folder); err != nil {
		return nil, err
	}
	return d.disk.List(folder, most)
}

type faultyFile struct {
	file
	d *faulty
}

// Write writes half of what it cannot write, as a full disk does.
func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.d.do("write"); err != nil {
		n, _ := f.file.Write(p[:len(p)/2])
		return n, err
	}
	return f.file.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.d.do("sync file"); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faultyFile) Close() error {
	return errors.Join(f.d.do("close"), f.file.Close())
}

func onFaulty(t *testing.T, base string, d *faulty) *Store {
	t.Helper()
	root, err := os.OpenRoot(base)
	if err != nil {
		t.Fatal(err)
	}
	d.disk = rooted{root}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	return open(template(t, base+"/{domain}/{local}"), Options{}, d)
}

// body is larger than the buffer, so that there are two writes.
var body = bytes.Repeat([]byte("0123456789\r\n"), 8000)

// TestTheOrderOfSteps is what durability hangs on: the octets before the name,
// the name before nil, each folder before what stands in it.
func TestTheOrderOfSteps(t *testing.T) {
	d := &faulty{}
	s := onFaulty(t, t.TempDir(), d)
	for range 2 {
		if err := s.Deliver(t.Context(), mail.NullPath(), forward(t, "u@d.example"), bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	const u = "d.example/u"
	deliver := []string{"list " + u + "/tmp", "create " + u + "/tmp/NAME", "write", "write", "sync file", "close", "rename " + u + "/tmp/NAME " + u + "/new/NAME", "sync " + u + "/new"}
	want := append([]string{
		"mkdir d.example", "sync .", "mkdir " + u, "sync d.example",
		"mkdir " + u + "/cur", "sync " + u, "mkdir " + u + "/new", "sync " + u, "mkdir " + u + "/tmp", "sync " + u,
	}, deliver...)
	want = append(want, "mkdir d.example", "mkdir "+u, "mkdir "+u+"/cur", "mkdir "+u+"/new", "mkdir "+u+"/tmp")
	want = append(want, deliver...)
	if !slices.Equal(d.log, want) {
		t.Errorf("did\n%s\nwant\n%s", strings.Join(d.log, "\n"), strings.Join(want, "\n"))
	}
}

// TestACrashAtEachStep: the process ends before, and a disk fails at, each
// operation. Never is half a message in new/; nil means that a whole one is
// there; what failed is delivered by trying again, and once.
func TestACrashAtEachStep(t *testing.T) {
	whole := "Return-Path: <>\nDelivered-To: u@d.example\n" + strings.ReplaceAll(string(body), "\r\n", "\n")
	for _, crashes := range []bool{true, false} {
		for at := 1; ; at++ {
			base := t.TempDir()
			d := &faulty{at: at, err: syscall.EIO, crashes: crashes}
			if crashes {
				d.err = errCrash
			}
			err := onFaulty(t, base, d).Deliver(t.Context(), mail.NullPath(), forward(t, "u@d.example"), bytes.NewReader(body))
			if len(d.log) < at {
				if err != nil || at < 18 {
					t.Fatalf("%d steps, %v", at-1, err)
				}
				break
			}
			step := d.log[at-1]
			inNew := messages(t, filepath.Join(base, "d.example/u/new"))
			for _, m := range inNew {
				if m != whole {
					t.Errorf("%s: half a message in new/: %d octets", step, len(m))
				}
			}
			var e *Error
			switch {
			case strings.HasPrefix(step, "list") && !crashes:
				if err != nil {
					t.Errorf("%s: %v", step, err)
				}
			case err == nil:
				t.Errorf("%s: no error", step)
			case !errors.As(err, &e) || !e.Reply.Transient() || !errors.Is(err, d.err) || strings.Contains(e.Reply.String(), base):
				t.Errorf("%s: %v", step, err)
			}
			if err == nil && len(inNew) != 1 || err != nil && !crashes && len(inNew) != 0 {
				t.Errorf("%s: %v and %d messages", step, err, len(inNew))
			}
			if left := messages(t, filepath.Join(base, "d.example/u/tmp")); !crashes && len(left) > 0 {
				t.Errorf("%s: %d files left in tmp/", step, len(left))
			}
			if err == nil {
				continue
			}
			// A crash behind the rename may give a second copy; it never loses one.
			again := opened(t, base+"/{domain}/{local}", Options{})
			if err := again.Deliver(t.Context(), mail.NullPath(), forward(t, "u@d.example"), bytes.NewReader(body)); err != nil {
				t.Errorf("%s: the second attempt: %v", step, err)
			}
			if n := len(messages(t, filepath.Join(base, "d.example/u/new"))); n != 1+len(inNew) {
				t.Errorf("%s: %d messages after the second attempt", step, n)
			}
		}
	}
}

func TestErrorsAreNamed(t *testing.T) {
	for _, c := range []struct {
		err         error
		reply, want string
	}{
		{syscall.ENOSPC, "452 4.3.1 No room on the disk", "no space left on device; make room on the disk"},
		{syscall.EDQUOT, "452 4.2.2 Mailbox full", "disk quota exceeded; raise the quota of the folder's owner, or make room"},
		{syscall.EACCES, "451 4.3.0 The mailbox cannot be written at the moment", "permission denied; let the user that we run as write there"},
		{syscall.EROFS, "451 4.3.0 The mailbox cannot be written at the moment", "read-only file system; the file system is read-only; mount it for writing"},
		{syscall.EIO, "451 4.3.0 The mailbox cannot be written at the moment", "input/output error; the disk fails; look at the system's log"},
	} {
		base := t.TempDir()
		err := onFaulty(t, base, &faulty{at: 13, err: c.err}).Deliver(t.Context(), mail.NullPath(), forward(t, "u@d.example"), bytes.NewReader(body))
		var e *Error
		if !errors.As(err, &e) || e.Reply.String() != c.reply || err.Error() != "maildir "+base+"/d.example/u: write: "+c.want {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	_, err := Open(template(t, filepath.Join(t.TempDir(), "missing", "{local}")), Options{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "make the folder above it, or mount its disk") {
		t.Errorf("%v", err)
	}
	if _, err := Open(Template{}, Options{}); err == nil {
		t.Error("the zero template is one")
	}
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "d.example"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = opened(t, base+"/{domain}/{local}", Options{}).Deliver(t.Context(), mail.NullPath(), forward(t, "u@d.example"), strings.NewReader("x"))
	if err == nil || !strings.HasSuffix(err.Error(), "a file stands where a folder belongs; move it away") {
		t.Errorf("%v", err)
	}
}

// TestAMessageThatBreaksOff is not delivered, and the cause is not the
// mailbox's.
func TestAMessageThatBreaksOff(t *testing.T) {
	base := t.TempDir()
	s := opened(t, base+"/{local}", Options{})
	given := errors.New("given up")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(given)
	for _, c := range []struct {
		ctx  context.Context
		body io.Reader
		want error
	}{
		{t.Context(), io.MultiReader(bytes.NewReader(body), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		{t.Context(), iotest.ErrReader(fmt.Errorf("queue: %w", io.EOF)), io.EOF},
		{ended, bytes.NewReader(body), given},
	} {
		err := s.Deliver(c.ctx, mail.NullPath(), forward(t, "u@d.example"), c.body)
		var e *Error
		if !errors.Is(err, c.want) || errors.As(err, &e) {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
	for _, name := range []string{"new", "tmp"} {
		if left := messages(t, path.Join(base, "u", name)); len(left) > 0 {
			t.Errorf("%d files in %s/", len(left), name)
		}
	}
}
