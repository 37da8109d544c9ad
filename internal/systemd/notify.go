package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// A Notifier tells the manager how the service is (sd_notify(3)). One without
// a manager tells nobody. It is safe for concurrent use.
type Notifier struct {
	conn  *net.UnixConn
	every time.Duration
}

// Manager returns the notifier to the manager that started this process. The
// socket is connected at once, so that a sandbox that is entered later, or
// another user, does not cut it off. The variables are taken away.
func Manager() (*Notifier, error) {
	path, usec, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // fails for a bad name only
	}
	if path == "" {
		return &Notifier{}, nil
	}
	if path[0] != '/' && path[0] != '@' { // @ stands for the zero octet of an abstract name; so does it in package net
		return &Notifier{}, fmt.Errorf("NOTIFY_SOCKET=%q is no path and no abstract name; the service manager is not told", path)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return &Notifier{}, fmt.Errorf("NOTIFY_SOCKET: %w; the service manager is not told", err)
	}
	n := &Notifier{conn: conn}
	if v, err := strconv.ParseInt(usec, 10, 64); err == nil && v > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(v) * time.Microsecond / 2
	}
	return n, nil
}

// Every returns how often Alive should be called: twice in the time after
// which the manager takes the service for hung; 0 when it does not watch.
func (n *Notifier) Every() time.Duration { return n.every }

// Ready says that the service serves, at its start and after Reloading.
func (n *Notifier) Ready(status string) error { return n.tell("READY=1", statusLine(status)) }

// Reloading says that the configuration is being read anew; Ready ends it.
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return os.NewSyscallError("clock_gettime", err)
	}
	return n.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping says that the service comes to its end.
func (n *Notifier) Stopping(status string) error { return n.tell("STOPPING=1", statusLine(status)) }

// Status says in a line how the service is.
func (n *Notifier) Status(status string) error { return n.tell(statusLine(status)) }

// Alive says that the service does not hang.
func (n *Notifier) Alive() error { return n.tell("WATCHDOG=1") }

// Close ends the connection to the manager.
func (n *Notifier) Close() error {
	if n.conn == nil {
		return nil
	}
	return n.conn.Close()
}

// patience is how long a manager that does not read holds us up: its queue
// takes a few words, and then a write waits.
const patience = time.Second

// statusLine keeps a status in its line: another one would be another word.
func statusLine(s string) string {
	return "STATUS=" + strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

func (n *Notifier) tell(lines ...string) error {
	if n.conn == nil {
		return nil
	}
	err := n.conn.SetWriteDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = n.conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
	}
	if err != nil {
		return fmt.Errorf("tell the service manager %s: %w", lines[0], err)
	}
	return nil
}
