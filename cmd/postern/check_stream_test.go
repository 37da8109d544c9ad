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

// The first of 40 targets takes an hour. The reports keep the order of the
// targets, and until then no more begin than the bound says.
func TestStreamKeepsOrderAndBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parallel = 2
		var dials atomic.Int32
		var out bytes.Buffer
		s := &stream{out: &out, write: given, summary: true}
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Minute)
			if got := dials.Load(); got != ahead*parallel {
				t.Errorf("%d targets begun while the first is not done, want %d", got, ahead*parallel)
			}
		})
		targets := hosts(t, 40)
		if err := runStream(t, s, targets, parallel, &dials); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		var want strings.Builder
		for i, target := range targets {
			fmt.Fprintln(&want, target.Given)
			if s.kept[i].Given != target.Given {
				t.Errorf("report %d for the documents is that of %q", i, s.kept[i].Given)
			}
		}
		if out.String() != want.String() {
			t.Errorf("printed\n%swant\n%s", out.String(), want.String())
		}
		if s.code != exitNothing {
			t.Errorf("exit code %d, want %d", s.code, exitNothing)
		}
	})
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
		if out.writes != 2 || dials.Load() > ahead*2+1 {
			t.Errorf("%d writes, %d targets begun", out.writes, dials.Load())
		}
	})
}
