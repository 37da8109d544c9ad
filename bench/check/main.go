// Program check measures `postern check` on many servers at once: those of the
// lab, some times over, with all that is slow and odd about them. ./run
// with the word lab does all of it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/internal/resolve"
	"postern/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

// parallel is what the measurement is about: the default of --parallel.
const parallel = 50

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: check PROGRAM COUNT...")
	}
	fmt.Printf("%d cores, %s, --parallel %d --wait %s\n\n", runtime.NumCPU(), runtime.Version(), parallel, wait)
	fmt.Print("| servers | all, s | the slowest alone, s | ratio | first line after, s | CPU s | peak MB |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, word := range args[1:] {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of servers", word)
		}
		if err := measure(ctx, args[0], n); err != nil {
			return err
		}
	}
	return nil
}

const (
	wait      = "30s"
	collector = "127.0.0.1:2499" // where `postern check --lab` has its collector
	zone      = "127.0.0.1:2453"
)

func measure(ctx context.Context, program string, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	targets, err := serve(ctx, n, &served)
	if err != nil {
		return err
	}
	all, err := check(ctx, program, targets)
	if err != nil {
		return err
	}
	if len(all.lines) != n {
		return fmt.Errorf("%d of %d servers were judged", len(all.lines), n)
	}
	slowest := slices.MaxFunc(all.lines, func(a, b line) int { return int(1000 * (a.Seconds - b.Seconds)) })
	one, err := check(ctx, program, []string{slowest.Target.Given})
	if err != nil {
		return err
	}
	fmt.Printf("| %d | %.1f | %.1f | %.2f | %.1f | %.1f | %.0f |\n", n, all.took.Seconds(), one.took.Seconds(),
		all.took.Seconds()/one.took.Seconds(), all.first.Seconds(), all.cpu.Seconds(), float64(all.peak)/1024)
	return nil
}

// serve starts as many labs as it takes for n servers, and returns their targets.
func serve(ctx context.Context, n int, served *sync.WaitGroup) ([]string, error) {
	at := netip.MustParseAddrPort(collector)
	var targets []string
	for len(targets) < n {
		l, err := lab.New(lab.Options{Collector: at, Lookup: lookup})
		if err != nil {
			return nil, err
		}
		served.Go(func() {
			if err := l.Run(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "lab:", err)
			}
		})
		for _, s := range l.Specimens {
			targets = append(targets, s.Target())
		}
	}
	return targets[:n], nil
}

// lookup asks the zone of the check that runs.
func lookup(ctx context.Context, domain string) []netip.Addr {
	r, err := resolve.New(resolve.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(zone)}, Timeout: time.Second, Rounds: 1})
	if err != nil {
		return nil
	}
	hosts, err := r.Exchangers(ctx, domain)
	if err != nil {
		return nil
	}
	var all []netip.Addr
	for _, h := range hosts {
		if addrs, err := r.Addresses(ctx, h); err == nil {
			all = append(all, addrs...)
		}
	}
	return all
}

// A line is what is read of the report on one server.
type line struct {
	Target  struct{ Given string }
	Verdict string
	Seconds float64
}

// A cost is what a run took.
type cost struct {
	lines            []line
	took, first, cpu time.Duration
	peak             int64 // KB
}

func check(ctx context.Context, program string, targets []string) (cost, error) {
	cmd := exec.CommandContext(ctx, program, "check", "--lab", "--i-own", "--try-logins", "--wait", wait, "--timeout", "10s",
		"--parallel", strconv.Itoa(parallel), "--json", "--one")
	for _, t := range targets {
		cmd.Args = append(cmd.Args, "--server", t)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return cost{}, err
	}
	var c cost
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return c, err
	}
	readErr := c.read(out, began)
	err = cmd.Wait()
	c.took, c.cpu = time.Since(began), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = usage.Maxrss
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() <= 3 {
		err = nil // its exit code is the verdict
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaints.String())
	}
	return c, errors.Join(readErr, err)
}

func (c *cost) read(out io.Reader, began time.Time) error {
	s := bufio.NewScanner(out)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		if c.first == 0 {
			c.first = time.Since(began)
		}
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return fmt.Errorf("a line of its output: %w", err)
		}
		c.lines = append(c.lines, l)
	}
	return s.Err()
}
