package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/systemd"
)

var managers atomic.Int64

// listenAsManager is the service manager's end: what it is told, in order. Its
// name is an abstract one, which a sandbox would cut off if it were asked for
// from within.
func listenAsManager(t *testing.T) (path string, heard func() string) {
	t.Helper()
	path = fmt.Sprintf("@postern-test-%d-%d", os.Getpid(), managers.Add(1))
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path, func() string {
		t.Helper()
		b := make([]byte, 4096)
		err := l.SetReadDeadline(time.Now().Add(time.Minute)) // so that what the relay printed is shown
		n := 0
		if err == nil {
			n, err = l.Read(b)
		}
		if err != nil {
			t.Fatalf("the manager is told nothing any more: %v", err)
		}
		return string(b[:n])
	}
}

// sick is a relay that hangs after its first look at itself, a few times.
type sick struct{ looks, hangs int }

func (s *sick) Healthy(ctx context.Context) error {
	s.looks++
	if s.looks > 1 && s.looks <= 1+s.hangs {
		<-ctx.Done()
		return errors.New("hung")
	}
	return nil
}

func (s *sick) Summary(context.Context) string { return "the same" }

// The watchdog is fed by a relay that answers itself, and by no other.
func TestWatchdogIsNotFedByARelayThatHangs(t *testing.T) {
	path, heard := listenAsManager(t)
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	manager, err := systemd.Manager()
	if err != nil {
		t.Fatal(err)
	}
	relay := &sick{hangs: 3}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&minder{manager: manager, relay: relay, log: slog.New(slog.DiscardHandler)}).run(ctx)
	}()
	var told []string
	for len(told) < 3 {
		told = append(told, strings.TrimSpace(heard()))
	}
	cancel()
	<-done
	if got, want := strings.Join(told, ", "), "WATCHDOG=1, STATUS=the same, WATCHDOG=1"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	if relay.looks < 2+relay.hangs {
		t.Errorf("the second time it was fed after %d looks, %d of which hung", relay.looks, relay.hangs)
	}
}
