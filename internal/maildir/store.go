package maildir

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/mail"
)

// A Store delivers into the Maildirs of one template. It is safe for
// concurrent use.
type Store struct {
	template  Template
	separator string
	host      string
	disk      disk
	count     atomic.Uint64
	making    sync.Mutex // a folder that somebody else made just now is durable when it is free
}

// Options may be zero.
type Options struct {
	Host      string // our name, in the names of files; "": localhost
	Separator string // of a subaddress, as "+": what stands behind it is not part of the folder
}

// Open opens the folder above the Maildirs, which must exist.
func Open(t Template, o Options) (*Store, error) {
	if t.base == "" {
		return nil, errors.New("maildir: no template")
	}
	root, err := os.OpenRoot(t.base)
	if err != nil {
		return nil, failed(t.base, "open", err)
	}
	return open(t, o, rooted{root}), nil
}

func open(t Template, o Options, d disk) *Store {
	host := o.Host
	if host == "" {
		host = "localhost"
	}
	// As the names of Maildirs have it: the one ends a name, the other begins
	// the flags behind it.
	host = strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host)
	return &Store{template: t, separator: o.Separator, host: host, disk: d}
}

// Close closes the folder; deliveries that are under way fail.
func (s *Store) Close() error { return s.disk.Close() }

// Deliver puts a message into the Maildir of one recipient, which is made
// where it is missing. When it returns nil, the message is on the disk. Lines
// end in LF there, as in every Maildir, and Return-Path and Delivered-To stand
// before the header (RFC 5321 section 4.4). Errors are *Error, but for the
// cause of ctx and an error of body, which come as they are.
func (s *Store) Deliver(ctx context.Context, from mail.ReversePath, to mail.ForwardPath, body io.Reader) error {
	folder, err := s.template.folder(to, s.separator)
	if err != nil {
		return err
	}
	where := path.Join(s.template.base, folder)
	if err := s.prepare(folder); err != nil {
		return failed(where, "make folder", err)
	}
	s.sweep(path.Join(folder, "tmp"))
	name := s.name()
	tmp := path.Join(folder, "tmp", name)
	f, err := s.disk.Create(tmp)
	if err != nil {
		return failed(where, "create file", err)
	}
	if err := s.fill(ctx, f, where, from, to, body); err != nil {
		_ = s.disk.Remove(tmp)
		return err
	}
	// A rename replaces what has its new name, and a link would not. But the
	// name holds 64 random bits and was made for this message alone, so there
	// is nothing to replace; and a rename leaves no moment in which the message
	// has two names, which a crash would turn into two messages.
	target := path.Join(folder, "new", name)
	if err := s.disk.Rename(tmp, target); err != nil {
		_ = s.disk.Remove(tmp)
		return failed(where, "rename into new/", err)
	}
	if err := s.disk.Sync(path.Join(folder, "new")); err != nil {
		// It may or may not last, so it will be delivered again. Taken back,
		// lest a disk that fails for hours fills the mailbox with copies.
		_ = s.disk.Remove(target)
		return failed(where, "sync new/", err)
	}
	return nil
}

// fill writes the message to f, makes it durable and closes f.
func (s *Store) fill(ctx context.Context, f file, where string, from mail.ReversePath, to mail.ForwardPath, body io.Reader) (err error) {
	defer func() {
		if closing := f.Close(); err == nil && closing != nil {
			err = failed(where, "close file", closing)
		}
	}()
	w := bufio.NewWriterSize(f, 64<<10)
	back := "<>"
	if !from.Null() {
		back = "<" + from.Address().String() + ">"
	}
	fmt.Fprintf(w, "Return-Path: %s\nDelivered-To: %s\n", back, to.Address())
	lines := &unixLines{w: w}
	for b := make([]byte, 32<<10); ; {
		if ctx.Err() != nil {
			return fmt.Errorf("maildir %s: %w", where, context.Cause(ctx))
		}
		n, err := body.Read(b)
		if err := lines.write(b[:n]); err != nil {
			return failed(where, "write", err)
		}
		if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a message that was cut off
			break
		}
		if err != nil {
			return fmt.Errorf("maildir %s: read message: %w", where, err)
		}
	}
	if err := errors.Join(lines.end(), w.Flush()); err != nil {
		return failed(where, "write", err)
	}
	if err := f.Sync(); err != nil {
		return failed(where, "sync file", err)
	}
	return nil
}

// unixLines turns CRLF into LF. A CR that stands alone stays.
type unixLines struct {
	w  *bufio.Writer
	cr bool // one was read and not yet written
}

func (u *unixLines) write(p []byte) error {
	for len(p) > 0 {
		if u.cr && p[0] != '\n' {
			if err := u.w.WriteByte('\r'); err != nil {
				return err
			}
		}
		u.cr = false
		i := bytes.IndexByte(p, '\r')
		if i < 0 {
			i = len(p)
		}
		if _, err := u.w.Write(p[:i]); err != nil {
			return err
		}
		if i < len(p) {
			u.cr = true
			i++
		}
		p = p[i:]
	}
	return nil
}

func (u *unixLines) end() error {
	if !u.cr {
		return nil
	}
	return u.w.WriteByte('\r')
}

// prepare makes the folders that are missing, and makes them durable.
func (s *Store) prepare(folder string) error {
	s.making.Lock()
	defer s.making.Unlock()
	made := ""
	for part := range strings.SplitSeq(folder, "/") {
		if err := s.mkdir(made, part); err != nil {
			return err
		}
		made = path.Join(made, part)
	}
	for _, part := range []string{"cur", "new", "tmp"} {
		if err := s.mkdir(folder, part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) mkdir(in, name string) error {
	err := s.disk.Mkdir(path.Join(in, name))
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no folder, creating the file will say so
	}
	if err != nil {
		return err
	}
	if in == "" {
		in = "."
	}
	return s.disk.Sync(in)
}

const (
	staleAfter = 36 * time.Hour // as Maildirs have it: no delivery takes so long
	sweepMost  = 256            // files that are looked at each time
)

// sweep removes what deliveries that were cut off left in tmp/. That it cannot
// is no reason to deliver nothing.
func (s *Store) sweep(tmp string) {
	list, _ := s.disk.List(tmp, sweepMost)
	for _, info := range list {
		if info.Mode().IsRegular() && time.Since(info.ModTime()) > staleAfter {
			_ = s.disk.Remove(path.Join(tmp, info.Name()))
		}
	}
}

// name makes a name that no other delivery has: the time, the process, the
// delivery within it, and chance, for clocks are set back and containers have
// the same process numbers.
func (s *Store) name() string {
	var chance [8]byte
	_, _ = rand.Read(chance[:]) // never fails
	now := time.Now()
	return fmt.Sprintf("%d.M%06dP%dQ%dR%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), s.count.Add(1), hex.EncodeToString(chance[:]), s.host)
}
