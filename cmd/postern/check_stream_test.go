package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/plan"
	"postern/report"
)

// refuser is a network where nothing listens and the first host answers late.
func refuser(dials *atomic.Int32) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		dials.Add(1)
		if strings.HasPrefix(address, "127.0.0.1:") {
			time.Sleep(time.Hour)
		}
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
}

// hosts are addresses of loopback: they need no proof of ownership, nor a pace.
func hosts(t *testing.T, n int) []plan.Target {
	t.Helper()
	var all []plan.Target
	for i := range n {
		target, err := plan.ParseTarget(fmt.Sprintf("127.0.0.%d:25", i+1))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, target)
	}
	return all
}

func given(w io.Writer, r report.Report) error {
	_, err := fmt.Fprintln(w, r.Given)
	return err
}

func runStream(t *testing.T, s *stream, targets []plan.Target, parallel int, dials *atomic.Int32) error {
	t.Helper()
	s.live = newLive(io.Discard, true)
	c, err := check.Begin(t.Context(), check.Options{Dial: refuser(dials), Ports: []uint16{25}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return s.checkAll(t.Context(), c, targets, parallel)
}

// The first of 40 targets takes an hour. The others are printed without it, in
// the order in which they are decided; the documents keep that of the targets.
func TestStreamWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		out := &lockedBuffer{}
		s := &stream{out: out, write: given, summary: true}
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Minute)
			if got := strings.Count(out.String(), "\n"); got != 39 {
				t.Errorf("%d targets printed while the first is not decided, want 39", got)
			}
		})
		targets := hosts(t, 40)
		if err := runStream(t, s, targets, 2, &dials); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for i, target := range targets {
			if s.kept[i].Given != target.Given {
				t.Errorf("report %d for the documents is that of %q", i, s.kept[i].Given)
			}
		}
		if !strings.HasSuffix(out.String(), "\n"+targets[0].Given+"\n") {
			t.Errorf("printed last: %q, want the target that took an hour", out.String())
		}
		if s.code != exitNothing {
			t.Errorf("exit code %d, want %d", s.code, exitNothing)
		}
	})
}

// A lockedBuffer may be read while others write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Of a thousand targets no more have begun, and are kept in memory, than the
// bound says, however many of them only wait.
func TestStreamIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int32
		dial := func(context.Context, string, string) (net.Conn, error) {
			begun.Add(1)
			time.Sleep(time.Hour)
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		c, err := check.Begin(t.Context(), check.Options{Dial: dial, Ports: []uint16{25}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := &stream{out: io.Discard, write: given, live: newLive(io.Discard, true)}
		go func() {
			time.Sleep(time.Minute)
			if got := begun.Load(); got != 2*begunForEach {
				t.Errorf("%d targets have begun, want %d", got, 2*begunForEach)
			}
		}()
		if err := s.checkAll(t.Context(), c, hosts(t, 100), 2); err != nil {
			t.Fatal(err)
		}
	})
}

// The worst of several targets is the exit code; one that could not be tested
// is worse than one that is closed, and never 0.
func TestExitCodeOfSeveral(t *testing.T) {
	for _, c := range []struct {
		codes []int
		want  int
	}{
		{[]int{exitOK}, exitOK},
		{[]int{exitNothing}, exitNothing},
		{[]int{exitOK, exitNothing, exitOK}, exitNothing},
		{[]int{exitDoubtful, exitNothing}, exitDoubtful},
		{[]int{exitNothing, exitOpen, exitDoubtful, exitOK}, exitOpen},
	} {
		got := exitOK
		for _, code := range c.codes {
			got = worseExit(got, code)
		}
		if got != c.want {
			t.Errorf("targets that exit alone with %v: %d, want %d", c.codes, got, c.want)
		}
	}
}

// A broken is a terminal that went away after the first report.
type broken struct{ writes int }

func (b *broken) Write(p []byte) (int, error) {
	if b.writes++; b.writes > 1 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestStreamStopsWhenNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		out := &broken{}
		err := runStream(t, &stream{out: out, write: given}, hosts(t, 40), 2, &dials)
		var e *exit
		if !errors.As(err, &e) || e.code != exitIO || !errors.Is(e.err, syscall.EPIPE) {
			t.Errorf("%v, want exit %d for %v", err, exitIO, syscall.EPIPE)
		}
		if out.writes != 2 || dials.Load() > begunForEach*2+2 {
			t.Errorf("%d writes, %d targets begun", out.writes, dials.Load())
		}
	})
}
