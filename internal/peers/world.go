package peers

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A world is a process that keeps namespaces alive, until its standard input ends: which happens
// at the latest when the test's process does, however it ends.
type world struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when its first process is gone
}

// newWorld starts script in namespaces of its own. The script goes on to cat when it has nothing
// left to do.
func newWorld(script string, namespaces uintptr, output io.Writer) (*world, error) {
	w := &world{cmd: exec.Command("/bin/sh", "-euc", script), ended: make(chan struct{})}
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setpgid: true}
	w.cmd.Stdout, w.cmd.Stderr = output, output
	var err error
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("namespaces: %w; network namespaces need root", err)
	}
	go func() { _ = w.cmd.Wait(); close(w.ended) }()
	return w, nil
}

// end stops the world and all that runs in it: where its first process has a process namespace of
// its own, the kernel kills the others with it.
func (w *world) end() {
	w.stdin.Close()
	select {
	case <-w.ended:
	case <-time.After(5 * time.Second):
		_ = w.cmd.Process.Kill()
		<-w.ended
	}
}

func (w *world) pid() int { return w.cmd.Process.Pid }

// command makes a command of the machine that runs in the world's network.
func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", w.pid()), "--"}, args...)...)
}

// within calls f on a thread that stands in the world's network: a socket belongs for ever to the
// network where it was made. The thread ends with the call, so nothing else runs on it.
func (w *world) within(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", w.pid()))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// wire joins two worlds and gives both ends their addresses. There is no way out of either.
func wire(ctx context.Context, tester, target *world) error {
	tools, err := Root(ctx, "tools")
	if err != nil {
		return err
	}
	in := func(w *world, words string) error {
		ip := inRoot(tools, "bin/ip", strings.Fields(words)...)
		if out, err := w.command(ctx, ip...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", words, err, out)
		}
		return nil
	}
	type end struct {
		w                  *world
		four, six          string
		farFour, farSix    string
		ownFour, ownSixNet string
	}
	if err := in(tester, fmt.Sprintf("link add eth0 type veth peer name eth0 netns %d", target.pid())); err != nil {
		return err
	}
	for _, e := range []end{
		{tester, Tester4, Tester6, "203.0.113.0/24", "2001:db8:2::/64", "/24", "/64"},
		{target, Target4, Target6, "192.0.2.0/24", "2001:db8:1::/64", "/24", "/64"},
	} {
		for _, words := range []string{
			"link set lo up",
			"addr add " + e.four + e.ownFour + " dev eth0",
			// Without the test for duplicates, which would take a second.
			"addr add " + e.six + e.ownSixNet + " dev eth0 nodad",
			"link set eth0 up",
			"route add " + e.farFour + " dev eth0 src " + e.four,
			"-6 route add " + e.farSix + " dev eth0 src " + e.six,
		} {
			if err := in(e.w, words); err != nil {
				return err
			}
		}
	}
	return nil
}

// inRoot is the command that runs a program of an unpacked root on this machine's files, with the
// loader and the libraries of the root.
func inRoot(root, program string, args ...string) []string {
	loaders, _ := filepath.Glob(filepath.Join(root, "lib*/ld-linux*.so.*"))
	if len(loaders) == 0 {
		loaders = []string{"no loader in " + root}
	}
	var libraries []string
	for _, pattern := range []string{"lib/*-linux-gnu", "usr/lib/*-linux-gnu", "usr/lib/*-linux-gnu/blas", "usr/lib/postfix"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		libraries = append(libraries, found...)
	}
	return append([]string{loaders[0], "--library-path", strings.Join(libraries, ":"), filepath.Join(root, program)}, args...)
}

// Dial opens a connection from the tester's side.
func (t *Target) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = t.tester.within(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen opens a TCP port on the tester's side.
func (t *Target) Listen(ctx context.Context, address string) (l net.Listener, err error) {
	err = t.tester.within(func() error {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

// ListenPacket opens a UDP port on the tester's side.
func (t *Target) ListenPacket(ctx context.Context, address string) (c net.PacketConn, err error) {
	err = t.tester.within(func() error {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(ctx, "udp", address)
		return err
	})
	return c, err
}

// Tester makes a command that runs on the tester's side, on this machine's files, and ends with
// the test.
func (t *Target) Tester(args ...string) *exec.Cmd { return t.tester.command(t.ctx, args...) }

// Nmap makes an nmap, as Debian ships it, that runs on the tester's side.
func (t *Target) Nmap(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	tools, err := Root(t.ctx, "tools")
	if err != nil {
		tb.Fatal(err)
	}
	cmd := t.Tester(inRoot(tools, "usr/bin/nmap", args...)...)
	cmd.Env = append(os.Environ(), "NMAPDIR="+filepath.Join(tools, "usr/share/nmap"))
	return cmd
}
