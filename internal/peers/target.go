package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Target is a case that runs, with its tester beside it.
type Target struct {
	Case   Case
	ctx    context.Context
	tester *world
	target *world
	log    *journal
}

// Context ends with the test.
func (t *Target) Context() context.Context { return t.ctx }

// atOnce bounds how many worlds run together: each is a handful of daemons that mostly wait.
var atOnce = make(chan struct{}, 12)

// startLimit is how long a server may take until it listens. The slowest are Debian's Sendmail and
// our relay, which audits itself first: about four seconds on an idle machine. On one that compiles
// beside, the kernel alone was seen to take 40 for a network's two ends.
const startLimit = 2 * time.Minute

// Start brings the case up and returns when all its ports listen. The test's cleanup ends it. What
// the server logged is shown when the test fails.
func Start(t testing.TB, c Case) *Target {
	t.Helper()
	Require(t)
	select {
	case atOnce <- struct{}{}:
		t.Cleanup(func() { <-atOnce })
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	target := &Target{Case: c, ctx: t.Context(), log: &journal{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s logged:\n%s", c.Name(), target.log)
		}
	})
	s := c.setup()
	root, err := Root(t.Context(), s.root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Root(t.Context(), "tools"); err != nil {
		t.Fatal(err)
	}
	if s.postern {
		if _, err := program(); err != nil {
			t.Fatal(err)
		}
	}
	// From here on it is the server that takes its time, not the archive and not the compiler.
	ctx, cancel := context.WithTimeoutCause(t.Context(), startLimit, fmt.Errorf("%s does not listen after %s", c.Name(), startLimit))
	defer cancel()
	if err := target.start(ctx, t, s, root); err != nil {
		t.Fatalf("%s: %v", c.Name(), err)
	}
	return target
}

func (t *Target) start(ctx context.Context, tb testing.TB, s setup, root string) (err error) {
	dir := tb.TempDir()
	if err := t.share(ctx, tb, dir, s); err != nil {
		return err
	}
	if t.tester, err = newWorld("exec cat", syscall.CLONE_NEWNET, t.log); err != nil {
		return err
	}
	tb.Cleanup(t.tester.end)
	script := strings.NewReplacer("@ROOT@", root, "@DIR@", dir).Replace(worldScript)
	const all = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC
	if t.target, err = newWorld(script, all, t.log); err != nil {
		return err
	}
	tb.Cleanup(t.target.end)
	if err := wire(ctx, t.tester, t.target); err != nil {
		return err
	}
	if err := t.resolver(ctx, tb); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(t.target.stdin, "go"); err != nil {
		return fmt.Errorf("the world ended before it began: %w", err)
	}
	for _, port := range s.ports {
		if err := t.await(ctx, net.JoinHostPort(t.Case.Address(), port)); err != nil {
			return err
		}
	}
	return nil
}

// worldScript makes the server's root out of the unpacked packages, on memory, and goes on with
// the server's own start. All mounts vanish with the world.
const worldScript = `
mount --make-rprivate /
cd '@DIR@'
mount -t tmpfs -o mode=755,size=512m peers root
cd root
mkdir -p dev proc run tmp root home/anna
chmod 1777 tmp
for d in bin sbin lib lib64 usr; do
	[ -d '@ROOT@'/$d ] || continue
	mkdir $d
	mount --bind '@ROOT@'/$d $d
	mount -o remount,bind,ro $d
done
cp -a '@ROOT@'/etc '@ROOT@'/var .
mount -t proc proc proc
for d in null zero full random urandom tty; do
	: >dev/$d
	mount --bind /dev/$d dev/$d
done
ln -s /proc/self/fd dev/fd
ln -s /run/peers/log dev/log
mkdir run/peers
mount --bind '@DIR@'/shared run/peers
rm -rf var/run var/lock
ln -s ../run var/run
mkdir -p run/lock && ln -s ../run/lock var/lock
cp -a '@DIR@'/files/. .
i=0
while read -r folder; do
	i=$((i+1))
	mkdir -p ".$folder"
	cp -a ".$folder" '@DIR@'/disk$i
	mount --bind '@DIR@'/disk$i ".$folder"
done <'@DIR@'/disks
chmod 755 .
chown 1000:1000 home/anna
echo mx.victim.example >/proc/sys/kernel/hostname
read -r go
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
exec chroot . /bin/sh -eu /run/peers/start
`

// share lays out what the world takes from the test: files, the start script, the socket where
// the server logs, and the greylisting daemon's.
func (t *Target) share(ctx context.Context, tb testing.TB, dir string, s setup) error {
	// The server's daemons, who are not root, must get through.
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"root", "shared", "files"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	for _, files := range []map[string]string{machine, s.files} {
		for name, text := range files {
			if err := writeFile(filepath.Join(dir, "files", name), text); err != nil {
				return err
			}
		}
	}
	start := s.start + "\nexec cat\n"
	if err := writeFile(filepath.Join(dir, "disks"), strings.Join(append(s.disk, ""), "\n")); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "shared", "start"), start); err != nil {
		return err
	}
	if s.postern {
		if _, err := writeProgram(filepath.Join(dir, "shared")); err != nil {
			return err
		}
	}
	if err := t.log.listen(ctx, tb, filepath.Join(dir, "shared", "log")); err != nil {
		return err
	}
	return greylist(ctx, tb, filepath.Join(dir, "shared", "greylist"))
}

func writeFile(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// await returns when the address takes connections, before anything was said.
func (t *Target) await(ctx context.Context, address string) error {
	for {
		c, err := t.Dial(ctx, "tcp", address)
		if err == nil {
			// Closed with a reset: a greeting that nobody reads must not count against us.
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-t.target.ended:
			return errors.New("the server's start script failed; what it said stands in the log")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A journal is the last of what a server printed and logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// journalLimit keeps a server that logs without end from filling the memory, and the log of a
// failed test readable: it is about the last fifty lines.
const journalLimit = 8 << 10

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(p)
	if over := j.text.Len() - journalLimit; over > 0 {
		j.text.Next(over)
	}
	return len(p), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// listen takes what is written to /dev/log in the world.
func (j *journal) listen(ctx context.Context, tb testing.TB, path string) error {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "unixgram", path)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		line := make([]byte, 8<<10)
		for {
			n, _, err := c.ReadFrom(line)
			if err != nil {
				return
			}
			_, _ = j.Write(append(bytes.TrimRight(line[:n], "\n\x00"), '\n'))
		}
	}()
	tb.Cleanup(func() { _ = c.Close(); <-done })
	return os.Chmod(path, 0o666)
}
