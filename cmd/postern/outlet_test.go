package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// reader is who reads the log: it may sleep, or be gone.
type reader struct {
	mu     sync.Mutex
	got    strings.Builder
	sleeps bool          // from the beginning
	asleep chan struct{} // closed: it wakes up
	gone   error
}

func (r *reader) Write(line []byte) (int, error) {
	if r.asleep != nil {
		<-r.asleep
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		return 0, r.gone
	}
	return r.got.Write(line)
}

func (r *reader) goes(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = err
}

func gapLine(n int) []byte { return fmt.Appendf(nil, "%d lines are missing\n", n) }

// Who reads the log can neither stop nor slow down who writes it.
func TestOutlet(t *testing.T) {
	line := strings.Repeat("x", 1023) + "\n"
	fits := mostWaiting / len(line)
	for _, c := range []struct {
		name string
		r    *reader
		do   func(o *outlet, r *reader)
		want string // what it ails
		got  func(text string) bool
	}{
		{
			"awake", &reader{}, func(o *outlet, _ *reader) { fmt.Fprint(o, "one\n"); fmt.Fprint(o, "two\n") }, "",
			func(text string) bool { return text == "one\ntwo\n" },
		},
		{
			"asleep: what does not fit is dropped", &reader{sleeps: true}, func(o *outlet, _ *reader) {
				for range fits + 100 {
					fmt.Fprint(o, line)
				}
				time.Sleep(time.Minute)
			}, "the reader of the log has been asleep for 1m0s; lines lost: 100", nil,
		},
		{
			"asleep, and it wakes up", &reader{sleeps: true}, func(o *outlet, r *reader) {
				for range fits + 100 {
					fmt.Fprint(o, line)
				}
				synctest.Wait()
				close(r.asleep)
				synctest.Wait()
				fmt.Fprint(o, "awake\n")
			}, "",
			func(text string) bool {
				return strings.Count(text, line) == fits && strings.HasSuffix(text, "awake\n") && strings.Contains(text, "100 lines are missing\n")
			},
		},
		{
			"gone", &reader{}, func(o *outlet, r *reader) {
				fmt.Fprint(o, "one\n")
				synctest.Wait()
				r.goes(&os.PathError{Op: "write", Path: "/dev/stderr", Err: syscall.EPIPE})
				for range 7 {
					fmt.Fprint(o, line)
				}
			}, "the reader of the log is gone; lines lost: 7",
			func(text string) bool { return text == "one\n" },
		},
		{
			"a full disk, and then it is none", &reader{gone: syscall.ENOSPC}, func(o *outlet, r *reader) {
				fmt.Fprint(o, "one\n")
				fmt.Fprint(o, "two\n")
				synctest.Wait()
				r.goes(nil)
				fmt.Fprint(o, "three\n")
			}, "",
			func(text string) bool { return text == "2 lines are missing\nthree\n" },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.r.sleeps {
					c.r.asleep = make(chan struct{})
				}
				o := newOutlet(c.r, gapLine)
				defer close(o.more)
				c.do(o, c.r)
				synctest.Wait()
				if got := o.ails(); got != c.want {
					t.Errorf("it says %q, want %q", got, c.want)
				}
				before := time.Now()
				o.flush()
				if stuck := c.got == nil; (time.Since(before) == time.Second) != stuck {
					t.Errorf("flush took %v", time.Since(before))
				}
				if c.got == nil {
					close(c.r.asleep)
				} else if text := c.r.got.String(); !c.got(text) {
					t.Errorf("read %q", text)
				}
				synctest.Wait()
			})
		})
	}
}
