package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// manager is the other end: what it is told.
func manager(t *testing.T, path string) func() string {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		b := make([]byte, 4096)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNotify(t *testing.T) {
	for _, path := range []string{t.TempDir() + "/notify", fmt.Sprintf("@postern-test-%d-%s", os.Getpid(), t.Name())} {
		t.Run(path[:1], func(t *testing.T) {
			heard := manager(t, path)
			t.Setenv("WATCHDOG_USEC", "30000000")
			t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
			n, err := Manager()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.Close() })
			if n.Every() != 15*time.Second {
				t.Errorf("Every = %v, want half of the watchdog's time", n.Every())
			}
			for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
				if v, set := os.LookupEnv(name); set {
					t.Errorf("%s=%s is still set", name, v)
				}
			}
			for _, c := range []struct {
				name string
				say  func() error
				want string
			}{
				{"ready", func() error { return n.Ready("closed; 2 listeners") }, `READY=1\nSTATUS=closed; 2 listeners\n`},
				{"reloading", n.Reloading, `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*\n`},
				{"stopping", func() error { return n.Stopping("drains") }, `STOPPING=1\nSTATUS=drains\n`},
				{"alive", n.Alive, `WATCHDOG=1\n`},
				{"a status is one line", func() error { return n.Status("a\nREADY=1\x1b[2J") }, `STATUS=a READY=1 \[2J\n`},
			} {
				if err := c.say(); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				if got := heard(); !regexp.MustCompile("^" + c.want + "$").MatchString(got) {
					t.Errorf("%s: %q, want %s", c.name, got, c.want)
				}
			}
		})
	}
}

// A manager that does not read does not hold up the service for ever.
func TestManagerThatDoesNotRead(t *testing.T) {
	manager(t, t.TempDir()+"/notify")
	n, err := Manager()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	for range 10000 { // more than its queue holds, whatever that is
		if err := n.Alive(); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Alive = %v", err)
			}
			return
		}
	}
	t.Error("the queue has no end")
}

func TestNobodyIsTold(t *testing.T) {
	for _, c := range []struct{ name, path, pid, want string }{
		{"no manager", "", "", ""},
		{"a kind that we do not know", "vsock:2:1234", "", `NOTIFY_SOCKET="vsock:2:1234" is no path and no abstract name; the service manager is not told`},
		{"nobody listens", "/nowhere/notify", "", "the service manager is not told"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", c.path)
			t.Setenv("WATCHDOG_USEC", "30000000")
			n, err := Manager()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Manager: %v, want %q", err, c.want)
			}
			if n.Every() != 0 {
				t.Errorf("nobody watches, and Every = %v", n.Every())
			}
			if err := n.Ready("x"); err != nil {
				t.Errorf("Ready: %v", err)
			}
		})
	}
	t.Run("the watchdog of another process", func(t *testing.T) {
		manager(t, t.TempDir()+"/n")
		t.Setenv("WATCHDOG_USEC", "30000000")
		t.Setenv("WATCHDOG_PID", "1")
		n, err := Manager()
		if err != nil || n.Every() != 0 {
			t.Errorf("Every = %v, %v", n.Every(), err)
		}
	})
}
