package peers

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
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
	"testing"
	"time"
)

// manyHosts is how many addresses the one Postfix answers on. A scan of this
// many real hosts would meet as many servers; here one does all their work,
// on the processors that the scanner has too.
const manyHosts = 200

// benched is a closed Postfix that bears 200 hosts' scans at once: Debian's
// own limits, 100 processes and 50 connections of one client, are those of
// one host.
var benched = Case{
	Server: "postfix", Config: "closed-benched", What: "as Debian installs it, with room for 200 scans at once",
	Want: "closed", Family: "4", Knock: plain,
	setup: postfix("default_process_limit = 700\nsmtpd_client_connection_count_limit = 0"),
}

// TestCheckingSpeed measures checks beside nmap's smtp-open-relay and prints
// the tables of docs/benchmarks.md; bench/check/run calls it.
func TestCheckingSpeed(t *testing.T) {
	Require(t)
	rounds, err := strconv.Atoi(os.Getenv("POSTERN_BENCH"))
	if err != nil || rounds < 1 {
		t.Skip("a measurement, not a test: run bench/check/run, or set POSTERN_BENCH to a number of rounds")
	}
	binary := filepath.Join(t.TempDir(), "postern")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "postern/cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	target := Start(t, benched)
	hosts := manyAddresses(t, target)
	b := &bench{target: target, binary: binary, rounds: rounds}
	const head = "| load | program | s | CPU s | peak MB |\n| --- | --- | ---: | ---: | ---: |\n"
	t.Run("near", func(t *testing.T) {
		fmt.Printf("%d cores, %s\n\n"+head, runtime.NumCPU(), runtime.Version())
		b.round(t, "one host", hosts[:1], postern("--quick"), postern(), nmap())
		b.round(t, "50 hosts", hosts[:50], postern("--quick"), postern())
		b.round(t, "200 hosts", hosts, postern("--quick"), postern())
	})
	for _, away := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
		t.Run("far", func(t *testing.T) {
			host := slowWire(t, target, away/2)
			fmt.Printf("\n%s away, the slowest reply takes %s\n\n"+head, away, slowestReply(t, target, host).Round(100*time.Microsecond))
			b.round(t, "one host, "+away.String()+" away", []string{host}, postern("--quick"), postern(), nmap())
		})
	}
	t.Run("many", func(t *testing.T) {
		fmt.Print("\n" + head)
		b.round(t, "200 hosts", hosts, postern("--quick"), nmap(), nmap("--min-hostgroup", "200"))
	})
}

// A contender is a program with its flags.
type contender struct {
	name  string
	nmap  bool
	flags []string
}

func postern(flags ...string) contender {
	return contender{name: strings.Join(append([]string{"postern check"}, flags...), " "), flags: flags}
}

func nmap(flags ...string) contender {
	return contender{name: strings.Join(append([]string{"nmap smtp-open-relay"}, flags...), " "), nmap: true, flags: flags}
}

// A cost is what one run took.
type cost struct {
	wall, cpu time.Duration
	peak      int // KB
}

type bench struct {
	target *Target
	binary string
	rounds int // how often each program meets each load; the median counts
}

// round measures the contenders in turns, so that a busy minute of the machine
// meets all, after one run that counts for nothing: it wakes the server's
// processes.
func (b *bench) round(t *testing.T, load string, hosts []string, all ...contender) {
	t.Helper()
	costs := make([][]cost, len(all))
	b.run(t, all[0], hosts)
	for range b.rounds {
		for i, c := range all {
			costs[i] = append(costs[i], b.run(t, c, hosts))
		}
	}
	for i, c := range all {
		fmt.Printf("| %s | `%s` | %.2f | %.2f | %.0f |\n", load, c.name,
			median(costs[i], func(c cost) time.Duration { return c.wall }).Seconds(),
			median(costs[i], func(c cost) time.Duration { return c.cpu }).Seconds(),
			float64(median(costs[i], func(c cost) int { return c.peak }))/1024)
	}
}

func median[T cmp.Ordered](costs []cost, of func(cost) T) T {
	var list []T
	for _, c := range costs {
		list = append(list, of(c))
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// run measures one run, and sees to it that every host was judged: what fails
// early is fast.
func (b *bench) run(t *testing.T, c contender, hosts []string) cost {
	t.Helper()
	var cmd *exec.Cmd
	if c.nmap {
		args := append([]string{"-n", "-Pn", "-p", "25,465,587,2525", "--script", "smtp-open-relay"}, c.flags...)
		cmd = b.target.Nmap(t, append(args, hosts...)...)
	} else {
		args := []string{
			b.binary, "check", "--i-own", "--domain", Domain,
			"--collector", Collector, "--collector-listen", Tester4 + ":25",
			"--zone", Collector, "--zone-listen", Tester4 + ":53", "--resolver", Tester4 + ":53",
			"--json", "--one",
		}
		cmd = b.target.Tester(append(append(args, c.flags...), hosts...)...)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peak := make(chan int)
	ended := make(chan struct{})
	go func() { peak <- highWater(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	used := cost{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	close(ended)
	used.peak = <-peak
	judged := strings.Count(stdout.String(), "doesn't seem to be an open relay")
	if !c.nmap {
		judged = closedInFull(t, stdout.Bytes())
	}
	if err != nil || judged != len(hosts) {
		t.Fatalf("%s: %v; %d of %d hosts judged closed\n%.4000s%.4000s", c.name, err, judged, len(hosts), stdout.String(), stderr.String())
	}
	return used
}

// closedInFull counts the reports that say closed with every form played.
func closedInFull(t *testing.T, reports []byte) int {
	t.Helper()
	n := 0
	for d := json.NewDecoder(bytes.NewReader(reports)); ; {
		var r struct {
			Verdict string
			Tested  float64
		}
		if err := d.Decode(&r); err == io.EOF {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		if r.Verdict == "closed" && r.Tested == 1 {
			n++
		}
	}
}

// highWater reads the peak of a process's memory, in KB, until it has ended.
// What wait4 tells is no use: it begins at our own size, which the process
// had until it called exec.
func highWater(pid int, ended <-chan struct{}) int {
	peak := 0
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				peak, _ = strconv.Atoi(strings.Fields(rest)[0])
			}
		}
		select {
		case <-ended:
			return peak
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// manyAddresses gives the target its addresses, all private: outside the local
// network a check keeps a pace.
func manyAddresses(t *testing.T, target *Target) []string {
	t.Helper()
	var hosts []string
	var batch strings.Builder
	for i := range manyHosts {
		hosts = append(hosts, fmt.Sprintf("10.77.0.%d", i+1))
		fmt.Fprintf(&batch, "addr add %s/24 dev eth0\n", hosts[i])
	}
	target.ip(t, target.target, batch.String())
	target.ip(t, target.tester, "route add 10.77.0.0/24 dev eth0 src "+Tester4+"\n")
	return hosts
}

// ip gives lines of arguments to iproute2 in a world's network.
func (t *Target) ip(tb testing.TB, w *world, lines string) {
	tb.Helper()
	tools, err := Root(t.ctx, "tools")
	if err != nil {
		tb.Fatal(err)
	}
	cmd := w.command(t.ctx, inRoot(tools, "bin/ip", "-batch", "-")...)
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("ip -batch: %v\n%s%s", err, lines, out)
	}
}

// slowestReply holds a conversation such as a check's, command by command, and
// returns the time of the slowest reply: the median of several.
func slowestReply(t *testing.T, target *Target, host string) time.Duration {
	t.Helper()
	var slowest []cost
	for range 7 {
		c, err := target.Dial(t.Context(), "tcp", net.JoinHostPort(host, "25"))
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		var worst time.Duration
		for _, line := range []string{"", "EHLO stranger.far.example", "MAIL FROM:<a@far.example>", "RCPT TO:<postmaster@" + Domain + ">", "RCPT TO:<nosuch@" + Domain + ">", "RCPT TO:<b@" + Collector + ">", "RSET"} {
			asked := time.Now()
			if line != "" {
				_, err = io.WriteString(c, line+"\r\n")
			}
			for more := true; more && err == nil; {
				var text string
				text, err = in.ReadString('\n')
				more = len(text) > 3 && text[3] == '-'
			}
			if err != nil {
				t.Fatalf("after %q: %v", line, err)
			}
			worst = max(worst, time.Since(asked))
		}
		c.Close()
		slowest = append(slowest, cost{wall: worst})
	}
	return median(slowest, func(c cost) time.Duration { return c.wall })
}
