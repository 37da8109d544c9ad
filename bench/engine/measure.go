package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/peers"
)

// rounds is how often each load is put on each server; the median counts.
const rounds = 3

// A work is one kind of load.
type work struct {
	name     string
	messages int
	args     []string // of smtp-source; nil: our own client
}

var works = []work{
	{"4 KB, 50 sessions", 30000, []string{"-d", "-s", "50", "-l", "4096"}},
	{"4 KB, a connection each", 8000, []string{"-s", "50", "-l", "4096"}},
	{"1 MB, 50 sessions", 1000, []string{"-d", "-s", "50", "-l", "1048576"}},
	{"4 KB, 50 sessions, pipelined", 60000, nil},
}

// idleConnections is how many wait after EHLO when memory is measured.
const idleConnections = 4000

// A server is one of those that are measured.
type server struct {
	name    string
	command func(address string) []string
	cmd     *exec.Cmd
	address string
}

func measure(ctx context.Context, w io.Writer) error {
	root, err := peers.Root(ctx, "postfix")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	servers := []*server{
		{name: "smtp-sink", command: func(a string) []string {
			return debian(root, "smtp-sink", append(notRoot(), "-m", "5000", a, "4096")...)
		}},
		{name: "go-smtp 0.25.1", command: func(a string) []string { return []string{self, "serve", "go-smtp", a} }},
		{name: "postern", command: func(a string) []string { return []string{self, "serve", "postern", a} }},
	}
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	fmt.Fprintf(w, "%s, %d cores, %s\n\n", cpu(), runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(w, "| load | server | msg/s | CPU us/msg |\n| --- | --- | ---: | ---: |\n")
	for _, job := range works {
		for _, s := range servers {
			if err := s.start(ctx); err != nil {
				return err
			}
		}
		rates, costs := map[string][]float64{}, map[string][]float64{}
		for range rounds { // in turns, so that a busy minute of the machine meets all
			for _, s := range servers {
				rate, cost, err := s.bear(ctx, self, root, job)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, job.name, err)
				}
				rates[s.name], costs[s.name] = append(rates[s.name], rate), append(costs[s.name], cost)
			}
		}
		for _, s := range servers {
			fmt.Fprintf(w, "| %s | %s | %.0f | %.1f |\n", job.name, s.name, median(rates[s.name]), median(costs[s.name]))
			s.stop()
		}
	}
	fmt.Fprintf(w, "\n| %d idle connections after EHLO | KB each |\n| --- | ---: |\n", idleConnections)
	for _, s := range servers {
		size, err := s.idle(ctx)
		if err != nil {
			return fmt.Errorf("%s, idle: %w", s.name, err)
		}
		fmt.Fprintf(w, "| %s | %.1f |\n", s.name, size)
	}
	return nil
}

// notRoot is what smtp-sink wants to hear when it is started by root.
func notRoot() []string {
	if os.Getuid() != 0 {
		return nil
	}
	return []string{"-u", "nobody"}
}

// debian makes a command of an unpacked Debian tree with that tree's own
// loader and libraries.
func debian(root, program string, args ...string) []string {
	lib := []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "usr/lib/postfix"}
	for i := range lib {
		lib[i] = filepath.Join(root, lib[i])
	}
	return append([]string{filepath.Join(root, "lib64/ld-linux-x86-64.so.2"), "--library-path", strings.Join(lib, ":"), filepath.Join(root, "usr/sbin", program)}, args...)
}

func (s *server) start(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	l.Close()
	args := s.command(s.address)
	s.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 100 {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
		if err == nil {
			c.Close()
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s does not listen on %s", s.name, s.address)
}

func (s *server) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// bear puts one load on the server.
func (s *server) bear(ctx context.Context, self, root string, job work) (rate, cost float64, err error) {
	args := []string{self, "load", s.address, strconv.Itoa(job.messages)}
	if job.args != nil {
		args = debian(root, "smtp-source", append(slices.Clone(job.args), "-m", strconv.Itoa(job.messages), "-f", "a@b.example", "-t", "c@d.example", s.address)...)
	}
	before, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, out)
	}
	took := time.Since(begun)
	after, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return 0, 0, err
	}
	n := float64(job.messages)
	return n / took.Seconds(), float64((after - before).Microseconds()) / n, nil
}

// idle opens connections that say EHLO and then nothing.
func (s *server) idle(ctx context.Context) (kilobytes float64, err error) {
	if err := s.start(ctx); err != nil {
		return 0, err
	}
	defer s.stop()
	before, err := resident(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	for range idleConnections {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 4096)
		if _, err := c.Read(b); err != nil {
			return 0, err
		}
		if _, err := io.WriteString(c, "EHLO c.example\r\n"); err != nil {
			return 0, err
		}
		if _, err := c.Read(b); err != nil {
			return 0, err
		}
	}
	time.Sleep(3 * time.Second)
	after, err := resident(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	return float64(after-before) / idleConnections, nil
}

// cpuTime reads what the process has used, in user mode and in the kernel.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// resident reads the memory that the process has to itself, in KB.
func resident(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("process %d tells no RssAnon", pid)
}

func cpu() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if _, name, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(line, "model name") {
			return strings.TrimSpace(name)
		}
	}
	return runtime.GOARCH
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
