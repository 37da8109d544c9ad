//go:build linux

package smtp

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A limit of descriptors is the whole process's, so a process of its own has
// it: the test's program, started again.
const descriptorsVariable = "POSTERN_DESCRIPTORS_TEST"

func TestNoDescriptorIsLeft(t *testing.T) {
	if os.Getenv(descriptorsVariable) != "" {
		outOfDescriptors(t)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestNoDescriptorIsLeft$", "-test.v")
	cmd.Env = append(os.Environ(), descriptorsVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "as it should") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// outOfDescriptors takes all descriptors of this process and knocks: the
// server tells those who come to come again, and serves when there are some.
func outOfDescriptors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		served <- manySinks().Run(ctx, l)
	}()
	greeting := func(c net.Conn) string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	first := dialed(t, l.Addr().String())
	if line := greeting(first); !strings.HasPrefix(line, "220 ") {
		t.Fatalf("before: %q", line)
	}
	// Clients whose sockets are there, and not yet connected.
	var fds []int
	for range 3 {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	old := limit.Cur
	limit.Cur = 128
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var held []int
	for {
		fd, err := syscall.Dup(fds[0])
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	at, _ := l.Addr().(*net.TCPAddr)
	to := &syscall.SockaddrInet4{Port: at.Port, Addr: [4]byte{127, 0, 0, 1}}
	for i, fd := range fds {
		if err := syscall.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		tv := syscall.Timeval{Sec: 30}
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 512)
		n, err := syscall.Read(fd, b)
		if err != nil || !strings.HasPrefix(string(b[:n]), "421 4.3.2 ") {
			t.Errorf("client %d without a descriptor for it hears %q, %v; want 421", i, b[:max(n, 0)], err)
		}
	}
	for _, fd := range held {
		_ = syscall.Close(fd)
	}
	limit.Cur = old
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if line := greeting(dialed(t, l.Addr().String())); !strings.HasPrefix(line, "220 ") {
		t.Errorf("afterwards: %q", line)
	}
	first.Close()
	stop()
	if err := <-served; err != nil {
		t.Errorf("Run = %v", err)
	}
	if !t.Failed() {
		t.Log("as it should")
	}
}

func dialed(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
