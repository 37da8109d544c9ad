package peers

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The servers that are measured, with room for what is put on them.
var (
	servingPostern = Case{
		Server: "postern", Config: "benched", Want: "closed", Family: "4", Knock: plain,
		setup: func() setup {
			s := relay("")()
			s.files["etc/postern/postern.hcl"] = strings.Replace(s.files["etc/postern/postern.hcl"], "connections_per_client = 200", "connections = 30000\n  connections_per_client = 30000", 1)
			return s
		},
	}
	servingPostfix = Case{
		Server: "postfix", Config: "benched", Want: "closed", Family: "4", Knock: plain,
		setup: postfix("default_process_limit = 1200\nsmtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 10000\nsmtpd_soft_error_limit = 10000\nsmtpd_recipient_limit = 100000"),
	}
)

const (
	strangersAtOnce = 50
	strangersEach   = 40  // sessions of each
	recipientsEach  = 200 // of one session
	loginsEach      = 20
	idlePostern     = 10_000
	idlePostfix     = 1_000
)

// TestServingSpeed measures how strangers are refused, beside Postfix in the
// same run, and prints the tables of docs/benchmarks.md; bench/serve/run calls it.
func TestServingSpeed(t *testing.T) {
	Require(t)
	rounds, err := strconv.Atoi(os.Getenv("POSTERN_BENCH"))
	if err != nil || rounds < 1 {
		t.Skip("a measurement, not a test: run bench/serve/run, or set POSTERN_BENCH to a number of rounds")
	}
	ours, theirs := Start(t, servingPostern), Start(t, servingPostfix)
	fmt.Printf("%d cores, %s\n\n| load | server | a second | CPU us each |\n| --- | --- | ---: | ---: |\n", runtime.NumCPU(), runtime.Version())
	for _, load := range []struct {
		name string
		n    int // things that are counted
		run  func(*Target) error
		only *Target
	}{
		{"sessions of a stranger, refused at RCPT", strangersAtOnce * strangersEach, func(target *Target) error { return target.crowd(strangersEach, 1) }, nil},
		{"recipients refused, 200 a session", strangersAtOnce * recipientsEach, func(target *Target) error { return target.crowd(1, recipientsEach) }, nil},
		{"logins with TLS, one user", strangersAtOnce * loginsEach, func(target *Target) error { return target.logins(loginsEach) }, ours},
	} {
		rates, costs := map[*Target][]float64{}, map[*Target][]float64{}
		for range rounds { // in turns, so that a busy minute of the machine meets both
			for _, target := range []*Target{ours, theirs} {
				if load.only != nil && load.only != target {
					continue
				}
				before, began := target.cpu(t), time.Now()
				if err := load.run(target); err != nil {
					t.Fatalf("%s: %v", target.Case.Name(), err)
				}
				rates[target] = append(rates[target], float64(load.n)/time.Since(began).Seconds())
				costs[target] = append(costs[target], float64(target.cpu(t)-before)/float64(load.n)/float64(time.Microsecond))
			}
		}
		for _, target := range []*Target{ours, theirs} {
			if len(rates[target]) > 0 {
				fmt.Printf("| %s | %s | %.0f | %.0f |\n", load.name, target.Case.Server, middle(rates[target]), middle(costs[target]))
			}
		}
	}
	fmt.Print("\n| idle after EHLO | server | KB each |\n| ---: | --- | ---: |\n")
	for _, idle := range []struct {
		target *Target
		n      int
	}{{ours, idlePostern}, {theirs, idlePostfix}} {
		before := idle.target.memory(t)
		conns, err := idle.target.wait(idle.n)
		if err != nil {
			t.Fatalf("%s: %v", idle.target.Case.Name(), err)
		}
		time.Sleep(2 * time.Second) // what a silent connection gives back, it has given back
		fmt.Printf("| %d | %s | %.1f |\n", idle.n, idle.target.Case.Server, float64(idle.target.memory(t)-before)/float64(idle.n))
		for _, c := range conns {
			c.Close()
		}
		time.Sleep(time.Second)
	}
}

func middle(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// together runs f in every one of the crowd.
func together(f func() error) error {
	errs := make(chan error, strangersAtOnce)
	for range strangersAtOnce {
		go func() { errs <- f() }()
	}
	var failed error
	for range strangersAtOnce {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

// crowd lets strangers ask for recipients of others.
func (t *Target) crowd(sessions, recipients int) error {
	return together(func() error {
		for range sessions {
			if err := t.stranger(recipients); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *Target) stranger(recipients int) error {
	c, err := t.Dial(t.ctx, "tcp", net.JoinHostPort(Target4, "25"))
	if err != nil {
		return err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if err := exchange(c, in, "", "220"); err != nil {
		return err
	}
	if err := exchange(c, in, "EHLO stranger.example\r\n", "250"); err != nil {
		return err
	}
	if err := exchange(c, in, "MAIL FROM:<a@far.example>\r\n", "250"); err != nil {
		return err
	}
	for range recipients {
		if err := exchange(c, in, "RCPT TO:<b@elsewhere.example>\r\n", "454", "550"); err != nil {
			return err
		}
	}
	return exchange(c, in, "QUIT\r\n", "221")
}

// exchange sends a command and holds the reply to its codes.
func exchange(c net.Conn, in *bufio.Reader, command string, codes ...string) error {
	if _, err := io.WriteString(c, command); err != nil {
		return err
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("after %q: %w", command, err)
		}
		if len(line) < 4 || !slices.Contains(codes, line[:3]) {
			return fmt.Errorf("%q was answered %q, want %v", command, line, codes)
		}
		if line[3] == ' ' {
			return nil
		}
	}
}

// logins lets anna log in, with a TLS handshake each time.
func (t *Target) logins(each int) error {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00anna\x00" + Password))
	return together(func() error {
		for range each {
			raw, err := t.Dial(t.ctx, "tcp", net.JoinHostPort(Target4, "465"))
			if err != nil {
				return err
			}
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			in := bufio.NewReader(c)
			for _, step := range [][2]string{{"", "220"}, {"EHLO c.example\r\n", "250"}, {"AUTH PLAIN " + plain + "\r\n", "235"}, {"QUIT\r\n", "221"}} {
				if err := exchange(c, in, step[0], step[1]); err != nil {
					return err
				}
			}
			c.Close()
		}
		return nil
	})
}

// wait opens connections that say EHLO and nothing more.
func (t *Target) wait(n int) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
	var next atomic.Int64
	var mu sync.Mutex
	err := together(func() error {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return nil
			}
			ctx, cancel := context.WithTimeout(t.ctx, time.Minute)
			c, err := t.Dial(ctx, "tcp", net.JoinHostPort(Target4, "25"))
			cancel()
			if err != nil {
				return err
			}
			mu.Lock()
			conns[i] = c
			mu.Unlock()
			in := bufio.NewReaderSize(c, 512)
			if err := exchange(c, in, "", "220"); err != nil {
				return err
			}
			if err := exchange(c, in, "EHLO idle.example\r\n", "250"); err != nil {
				return err
			}
		}
	})
	return conns, err
}

// processes are those of the target's world, without its shell.
func (t *Target) processes(tb testing.TB) []string {
	tb.Helper()
	world, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", t.target.pid()))
	if err != nil {
		tb.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		tb.Fatal(err)
	}
	return slices.DeleteFunc(all, func(dir string) bool {
		ns, err := os.Readlink(dir + "/ns/pid")
		return err != nil || ns != world
	})
}

// tick is the kernel's unit of processor time (USER_HZ).
const tick = 10 * time.Millisecond

// cpu is the processor time of all processes of the world, those that have
// ended included.
func (t *Target) cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var sum time.Duration
	for _, dir := range t.processes(tb) {
		text, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has just ended, and its parent counts it
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, f := range fields[11:15] { // utime, stime, and those of children that were waited for
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum
}

// memory is what all processes of the world hold, in KB: shared pages are
// shared out among those that share them.
func (t *Target) memory(tb testing.TB) int64 {
	tb.Helper()
	var sum int64
	for _, dir := range t.processes(tb) {
		text, err := os.ReadFile(dir + "/smaps_rollup")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				n, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					tb.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}
