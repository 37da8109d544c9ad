package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"postern/internal/deliver"
	"postern/internal/meter"
	"postern/serve"
)

// What a server says, and what a domain is called, does nothing to a terminal.
func TestTopIsDrawn(t *testing.T) {
	now := time.Date(2026, 11, 24, 14, 2, 11, 0, time.Local)
	top := serve.Top{
		At: now, Rates: meter.Rates{In: 12.3, Out: 4, Deferred: 0.5}, Messages: map[string]int{"fresh": 1, "active": 2, "deferred": 3, "held": 4},
		Destinations: []serve.TopDestination{
			{Status: deliver.Status{Destination: "far.example", Active: 5, Ahead: 32, Limit: 20}, Messages: 1000, Oldest: now.Add(-90 * time.Second), Reply: "250 2.0.0 ok\x1b[2J\u202e"},
			{Status: deliver.Status{Destination: "slow.example", Limit: 1, Gap: "1.6s", Blocked: now.Add(time.Minute), Why: "connection refused\r\n\x1b]0;x\a"}, Messages: 3, Held: 1},
			{Status: deliver.Status{Active: 1}, Messages: 1},
		},
		More: 7, Breakouts: []meter.Breakout{{Who: "anna\x1b[1m", Since: now.Add(-time.Hour)}}, Hold: "no route",
		Suspended:  []serve.Suspension{{Client: "scanner\x1b[1m", Why: "other clients hide", Since: now.Add(-time.Hour)}},
		Headerless: []serve.Headerless{{Listener: "mx", Balancer: netip.MustParseAddr("192.0.2.2"), Connections: 3, Last: now}},
	}
	want := `14:02:11   in 12.3/s   out 4.0/s   deferred 0.5/s   failed 0.0/s
queue: 1 fresh, 2 active, 3 deferred, 4 held
held: no route
breakout of anna\x1b[1m since 24 Nov 13:02:11: postern release anna\x1b[1m, or postern reject anna\x1b[1m
suspended since 24 Nov 13:02:11: scanner\x1b[1m: other clients hide; postern reload trusts it again
balancer 192.0.2.2 passed on 3 connections to mx without a PROXY header, the last at 24 Nov 14:02:11

DESTINATION   ACTIVE  AHEAD  LIMIT  WAITING  HELD  OLDEST  GAP   STATE
far.example   5       32     20     1000     0     1m30s   -     250 2.0.0 ok\x1b[2J\u{202e}
slow.example  0       0      1      3        1     -       1.6s  left alone until 14:03:11: connection refused\x0d\x0a\x1b]0;x\x07
(postmaster)  1       0      0      1        0     -       -     -
and 7 more: postern queue list
`
	if got := drawTop(&top, now, false, 0); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := drawTop(&serve.Top{At: now}, now, true, 80); !strings.HasSuffix(strings.SplitN(got, "\n", 2)[0], "q ends") || !strings.HasSuffix(got, "\nNothing waits.\n") {
		t.Errorf("an idle relay:\n%s", got)
	}
}

// On a terminal of 80 columns what is wanted is not cut off: until when a
// destination is left alone, and why.
func TestTopOnANarrowTerminal(t *testing.T) {
	now := time.Date(2026, 11, 24, 14, 2, 11, 0, time.Local)
	top := serve.Top{At: now, Destinations: []serve.TopDestination{
		{Status: deliver.Status{Destination: "dead.example", Limit: 1, Blocked: now.Add(time.Minute), Why: "4.4.1 dial tcp 127.0.0.1:14599: connection refused"}, Messages: 32, Oldest: now.Add(time.Hour)},
		{Status: deliver.Status{Destination: strings.Repeat("long.", 20) + "example", Active: 5, Limit: 20}, Messages: 1},
	}}
	got := framed(drawTop(&top, now, true, 80), 80, 24)
	for _, part := range []string{"  left alone until 14:03:11: 4.4.1 dial tcp 127.0.0.1:14599: connection refused\x1b", "long.example  5       0      20     1        0     -       -", " 0s      -"} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in\n%s", part, got)
		}
	}
}

// On a terminal it is drawn again and again, and q, or Ctrl-C, gives the
// terminal back as it was.
func TestTopOnATerminal(t *testing.T) {
	dir := configured(t, runningConfig)
	start(t, dir, nil)
	for _, key := range []string{"q", "\x03"} {
		master, slave := terminal(t)
		cmd := exec.Command("postern", "top", "--state", filepath.Join(dir, "state"))
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		var seen strings.Builder
		in := make([]byte, 4096)
		for pressed := false; ; {
			n, err := master.Read(in)
			if err != nil { // the other end is closed
				break
			}
			if seen.Write(in[:n]); !pressed && strings.Count(seen.String(), "\x1b[H") == 2 {
				pressed = true
				if _, err := master.WriteString(key); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		for _, part := range []string{"\x1b[?1049h", "in 0.0/s", "q ends", "Nothing waits.", "\x1b[?25h\x1b[?1049l"} {
			if !strings.Contains(seen.String(), part) {
				t.Errorf("%q: no %q in %q", key, part, seen.String())
			}
		}
		if !strings.HasSuffix(seen.String(), "\x1b[?1049l") {
			t.Errorf("%q: at the end of %q the screen is not given back", key, seen.String())
		}
	}
}

// terminal makes the two ends of one.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine gives no terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	var unlock, number int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// A frame has no more lines than the screen, and none is wider.
func TestFramed(t *testing.T) {
	for _, c := range []struct {
		text          string
		width, height int
		want          string
	}{
		{"one\ntwo\n", 80, 24, "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J"},
		{"one\ntwo\nthree\n", 3, 2, "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J"},
		{"größer\n", 3, 2, "\x1b[Hgrö\x1b[K\x1b[J"},
	} {
		if got := framed(c.text, c.width, c.height); got != c.want {
			t.Errorf("%q in %dx%d: %q, want %q", c.text, c.width, c.height, got, c.want)
		}
	}
}

func TestTrafficIsPrinted(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	page := serve.TrafficPage{
		By: "identity", Price: 0.09, Currency: "EUR", More: 2,
		Report: meter.Report{
			From: at, Until: at.Add(150 * time.Minute), Total: meter.Sums{Messages: 3, Recipients: 5, In: 10 << 20, Out: 200 << 30, Delivered: 4, Failed: 1, Held: 1, Refused: 9},
			Rows: []meter.Row{{Name: "anna\x1b[2J", Sums: meter.Sums{Messages: 3, Out: 100 << 30}}},
		},
		Budgets:   []serve.BudgetStatus{{Budget: "1TiB/month", Leaves: 1 << 39, Share: 0.5}, {Who: "anna", Budget: "1GiB/day", Leaves: 1 << 30, Share: 1}},
		Breakouts: []meter.Breakout{{Who: "ben", Since: at}},
	}
	want := `24 Nov 2026 12:00 to 24 Nov 2026 14:30 UTC
     IDENTITY  MESSAGES  RECIPIENTS        IN        OUT  DELIVERED  DEFERRED  FAILED  HELD  REFUSED       COST
  anna\x1b[2J         3           0       0 B  100.0 GiB          0         0       0     0        0   9.00 EUR
      (total)         3           5  10.0 MiB  200.0 GiB          4         0       1     1        9  18.00 EUR
(2 more: --max)
budget 1TiB/month of all: 512.0 GiB are to leave, 50 %
budget 1GiB/day of anna: 1.0 GiB are to leave, 100 %
breakout of ben since ` + at.Local().Format("2 Jan 15:04:05") + `: postern release ben, or postern reject ben
`
	var b strings.Builder
	if err := printTraffic(&b, &page, false); err != nil || b.String() != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, b.String(), want)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 3 << 40: "3.0 TiB", 1 << 60: "1048576.0 TiB"} {
		if got := octets(n); got != want {
			t.Errorf("octets(%d) = %q, want %q", n, got, want)
		}
	}
}
