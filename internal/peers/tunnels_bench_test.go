package peers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/connect"
	"postern/forward"
	"postern/socks"
)

// The gateways that are measured, each open to the tester alone and to its places.
var gatewayRivals = []struct {
	name  string
	case_ Case
	ways  []way
}{
	{"postern", Case{Server: "postern", Config: "tunnels", Family: "4", setup: fastTunnels(relay(tunnelledGateways, "1080", "3128"))}, []way{{"SOCKS5", "1080"}, {"CONNECT", "3128"}}},
	{"dante", Case{Server: "dante", Config: "tunnels", Family: "4", setup: fastTunnels(proxy("1080", "ulimit -n $(ulimit -Hn)\n"+danteStart, quietDante()))}, []way{{"SOCKS5", "1080"}}},
	{"squid", Case{Server: "squid", Config: "tunnels", Family: "4", setup: fastTunnels(proxy("3128", strings.Replace(squidStart(squidTunnels), "ulimit -n 1024", "ulimit -n $(ulimit -Hn)", 1), nil))}, []way{{"CONNECT", "3128"}}},
}

// A way is the protocol by which a gateway is asked, and its port.
type way struct{ protocol, port string }

// Where the places are to which the tester is led.
const (
	echoPort   = "7001"
	sourcePort = "7002"
	drainPort  = "7003"
)

var tunnelledGateways = strings.NewReplacer("@TESTER@", Tester4).Replace(`
trusted_client "tester" {
  address     = "192.0.2.0/24"
  may_send_as = ["*@victim.example"]
}
gateway "socks" {
  port    = 1080
  clients = ["tester"]
  to      = ["@TESTER@:7001", "@TESTER@:7002", "@TESTER@:7003"]
  tunnels_per_user = 10000
  new_tunnels      = "10000000/m"
}
gateway "connect" {
  port    = 3128
  clients = ["tester"]
  to      = ["@TESTER@:7001", "@TESTER@:7002", "@TESTER@:7003"]
  tunnels_per_user = 10000
  new_tunnels      = "10000000/m"
}
`)

// quietDante is as its manual has it, without a log.
func quietDante() map[string]string {
	files := danteConf("client pass { from: 192.0.2.0/24 to: 0.0.0.0/0 }\nsocks pass { from: 192.0.2.0/24 to: " + Tester4 + "/32 }\n")
	files["etc/danted.conf"] = strings.Replace(files["etc/danted.conf"], "logoutput: stderr", "logoutput: /dev/null", 1)
	return files
}

// squidTunnels lets the tester in, and neither keeps nor logs anything.
const squidTunnels = `-e 's/^http_access allow localhost$/http_access allow all/' -e 's/^http_access deny CONNECT .*//' -e 's/^http_access deny !Safe_ports//' -e '$a access_log none' -e '$a cache deny all' -e '$a max_filedescriptors 20000'`

// fastTunnels lets the machine use its ports again at once, as tuned proxies do.
func fastTunnels(s func() setup) func() setup {
	return func() setup {
		made := s()
		made.start = "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse\necho 1024 65000 >/proc/sys/net/ipv4/ip_local_port_range\n" + made.start
		if file, text := "etc/postern/postern.hcl", made.files["etc/postern/postern.hcl"]; text != "" {
			made.files[file] = strings.Replace(text, "connections_per_client = 200", "connections = 30000\n  connections_per_client = 30000", 1)
			made.files[file] = strings.Replace(made.files[file], `new_connections = "100000/m"`, `new_connections = "10000000/m"`, 1)
			made.start = strings.Replace(made.start, "serve --config /etc/postern/postern.hcl", "serve --config /etc/postern/postern.hcl 2>/dev/null", 1)
		}
		return made
	}
}

// A tunnelLoad is what one run puts on a gateway; the process at the tester's side gets it as JSON.
type tunnelLoad struct {
	Name     string
	Protocol string // SOCKS5, CONNECT; else directly
	Port     string
	AtOnce   int
	Tunnels  int   // all in all
	Octets   int64 // through each; none: one echo of 64
	Up       bool
	Idle     bool // all at once, and then nothing
}

// A tunnelled is what it measured.
type tunnelled struct {
	Seconds float64
	Median  float64 // from the dial to the echo, in milliseconds
	P99     float64
}

var tunnelLoads = []tunnelLoad{
	{Name: "tunnels with an echo, 50 at once", AtOnce: 50, Tunnels: 20_000},
	{Name: "tunnels with an echo, one at a time", AtOnce: 1, Tunnels: 2_000},
	{Name: "octets down, 4 tunnels", AtOnce: 4, Tunnels: 4, Octets: 1 << 30},
	{Name: "octets up, 4 tunnels", AtOnce: 4, Tunnels: 4, Octets: 1 << 30, Up: true},
}

const (
	idleTunnels = 5_000
	idleFor     = 20 * time.Second
	idleSources = 20 // addresses from which they come
)

// TestTunnelSpeed measures gateways beside Dante and Squid in the same run, and
// prints the tables of docs/benchmarks.md; bench/gateway/run calls it.
func TestTunnelSpeed(t *testing.T) {
	Require(t)
	rounds, err := strconv.Atoi(os.Getenv("POSTERN_BENCH"))
	if err != nil || rounds < 1 {
		t.Skip("a measurement, not a test: run bench/gateway/run, or set POSTERN_BENCH to a number of rounds")
	}
	type run struct {
		name string
		at   way
		on   *Target
	}
	only := os.Getenv("POSTERN_BENCH_ONLY")
	var runs []run
	for _, r := range gatewayRivals {
		if only != "" && !slices.Contains(strings.Split(only, ","), r.name) {
			continue
		}
		target := Start(t, r.case_)
		target.roomForTunnels(t)
		for _, w := range r.ways {
			runs = append(runs, run{r.name, w, target})
		}
	}
	runs = append(runs, run{"direct", way{protocol: "none"}, runs[0].on})
	fmt.Printf("%d cores, %s\n\n| load | gateway | protocol | a second | CPU each | median ms | 99 %% ms |\n| --- | --- | --- | ---: | ---: | ---: | ---: |\n", runtime.NumCPU(), runtime.Version())
	for _, l := range tunnelLoads {
		rates, costs, medians, tails := map[run][]float64{}, map[run][]float64{}, map[run][]float64{}, map[run][]float64{}
		for range rounds { // in turns, so that a busy minute of the machine meets all
			for _, r := range runs {
				l.Protocol, l.Port = r.at.protocol, r.at.port
				before := r.on.cpu(t)
				got := r.on.tunnel(t, l)
				cpu := r.on.cpu(t) - before
				amount := float64(l.Tunnels)
				if l.Octets > 0 {
					amount *= float64(l.Octets) / (1 << 20)
				}
				rates[r] = append(rates[r], amount/got.Seconds)
				costs[r] = append(costs[r], float64(cpu)/amount/float64(time.Microsecond))
				medians[r], tails[r] = append(medians[r], got.Median), append(tails[r], got.P99)
			}
		}
		for _, r := range runs {
			unit := ""
			if l.Octets > 0 {
				unit = " MB"
			}
			cost := fmt.Sprintf("%.0f us", middle(costs[r]))
			if r.name == "direct" {
				cost = ""
			}
			fmt.Printf("| %s | %s | %s | %.0f%s | %s | %.2f | %.2f |\n", l.Name, r.name, r.at.protocol, middle(rates[r]), unit, cost, middle(medians[r]), middle(tails[r]))
		}
	}
	fmt.Printf("\n| %d idle tunnels | protocol | KB each | CPU ms in %v | processes |\n| --- | --- | ---: | ---: | ---: |\n", idleTunnels, idleFor)
	for _, r := range runs[:len(runs)-1] {
		fresh := Start(t, r.on.Case) // what one that has worked holds, it would use again
		fresh.roomForTunnels(t)
		memory, cpu, processes := fresh.idleTunnels(t, tunnelLoad{Protocol: r.at.protocol, Port: r.at.port, AtOnce: 50, Tunnels: idleTunnels, Idle: true})
		fmt.Printf("| %s | %s | %.1f | %d | %d |\n", r.name, r.at.protocol, float64(memory)/idleTunnels, cpu.Milliseconds(), processes)
	}
}

// roomForTunnels gives the tester's side the addresses and ports that it needs.
func (t *Target) roomForTunnels(tb testing.TB) {
	tb.Helper()
	tools, err := Root(t.ctx, "tools")
	if err != nil {
		tb.Fatal(err)
	}
	script := "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse; echo 1024 65000 >/proc/sys/net/ipv4/ip_local_port_range"
	for i := range idleSources {
		script += "; " + strings.Join(inRoot(tools, "bin/ip", "addr", "add", idleSource(i)+"/32", "dev", "eth0"), " ")
	}
	if out, err := t.Tester("/bin/sh", "-euc", script).CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
}

func idleSource(i int) string { return "192.0.2." + strconv.Itoa(100+i) }

// tunnelling starts a process at the tester's side that puts a load on the gateway.
func (t *Target) tunnelling(tb testing.TB, l tunnelLoad) (cmd *exec.Cmd, stdin io.WriteCloser, lines *bufio.Scanner) {
	tb.Helper()
	words, err := json.Marshal(l)
	if err != nil {
		tb.Fatal(err)
	}
	cmd = t.Tester(os.Args[0], "-test.run", "^TestTunnelLoad$")
	cmd.Env = append(os.Environ(), "POSTERN_TUNNELS="+string(words))
	cmd.Stderr = os.Stderr
	if stdin, err = cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return cmd, stdin, bufio.NewScanner(out)
}

// told returns what the process measured.
func told(tb testing.TB, lines *bufio.Scanner) (got tunnelled) {
	tb.Helper()
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "measured "); ok {
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				tb.Fatal(err)
			}
			return got
		}
		tb.Log(lines.Text())
	}
	tb.Fatal("the load's process ended without a word")
	return got
}

func (t *Target) tunnel(tb testing.TB, l tunnelLoad) tunnelled {
	tb.Helper()
	cmd, stdin, lines := t.tunnelling(tb, l)
	got := told(tb, lines)
	stdin.Close()
	_ = cmd.Wait()
	return got
}

// idleTunnels returns what tunnels hold in which nothing passes: KB, and the processor time.
func (t *Target) idleTunnels(tb testing.TB, l tunnelLoad) (memory int64, cpu time.Duration, processes int) {
	tb.Helper()
	before := t.memory(tb)
	cmd, stdin, lines := t.tunnelling(tb, l)
	told(tb, lines)
	time.Sleep(2 * time.Second) // what is given back when it is silent, is given back
	memory = t.memory(tb) - before
	began := t.cpu(tb)
	time.Sleep(idleFor)
	cpu, processes = t.cpu(tb)-began, len(t.processes(tb))-1 // the world's first is ours
	stdin.Close()
	_ = cmd.Wait()
	return memory, cpu, processes
}

// TestTunnelLoad is the process at the tester's side: the clients, and the places to which they are led.
func TestTunnelLoad(t *testing.T) {
	words := os.Getenv("POSTERN_TUNNELS")
	if words == "" {
		t.Skip("a part of TestTunnelSpeed")
	}
	var l tunnelLoad
	if err := json.Unmarshal([]byte(words), &l); err != nil {
		t.Fatal(err)
	}
	for port, serve := range map[string]func(net.Conn){
		echoPort:   echo,
		sourcePort: pourOut,
		drainPort:  func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, l.Octets); _, _ = c.Write([]byte{1}) },
	} {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(Tester4, port))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); serve(c) }()
			}
		}()
	}
	took := make([]float64, l.Tunnels)
	kept := make([]net.Conn, l.Tunnels)
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range l.AtOnce {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= l.Tunnels {
					return
				}
				from := time.Now()
				c, err := l.one(t.Context(), i)
				if err != nil {
					t.Errorf("tunnel %d: %v", i, err)
					return
				}
				if took[i] = time.Since(from).Seconds() * 1000; l.Idle {
					kept[i] = c
				} else {
					c.Close()
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	all := time.Since(began).Seconds()
	slices.Sort(took)
	text, err := json.Marshal(tunnelled{Seconds: all, Median: took[len(took)/2], P99: took[len(took)*99/100]})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("measured %s\n", text)
	for _, c := range kept {
		if c != nil {
			_ = c.SetDeadline(time.Time{})
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, c := range kept {
		if c != nil {
			c.Close()
		}
	}
}

// echo holds no pipe of the kernel's, as io.Copy would: descriptors are counted here.
func echo(c net.Conn) {
	b := make([]byte, 64)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

func pourOut(c net.Conn) {
	block := make([]byte, 256<<10)
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// one makes a tunnel and sends through it what the load says.
func (l tunnelLoad) one(ctx context.Context, i int) (net.Conn, error) {
	port := echoPort
	switch {
	case l.Octets > 0 && l.Up:
		port = drainPort
	case l.Octets > 0:
		port = sourcePort
	}
	c, err := l.lead(ctx, i, port)
	if err != nil {
		return nil, err
	}
	if err := l.use(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (l tunnelLoad) lead(ctx context.Context, i int, port string) (net.Conn, error) {
	place := netip.MustParseAddrPort(net.JoinHostPort(Tester4, port))
	at := net.JoinHostPort(Target4, l.Port)
	var d net.Dialer
	if l.Protocol == "none" {
		at = place.String()
	}
	if l.Idle {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(idleSource(i % idleSources))}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	to, err := forward.ParseAddress(place.String())
	if err != nil {
		return nil, err
	}
	switch l.Protocol {
	case "SOCKS5":
		_, err = socks.Request{Version: 5, Command: socks.Connect, To: to}.Play(ctx, c, nil)
	case "CONNECT":
		var tunnel net.Conn
		if tunnel, _, err = (connect.Request{To: to}).Connect(ctx, c, nil); err == nil {
			c = tunnel
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (l tunnelLoad) use(c net.Conn) error {
	switch {
	case l.Octets == 0:
		b := make([]byte, 64)
		if _, err := c.Write(b); err != nil {
			return err
		}
		_, err := io.ReadFull(c, b)
		return err
	case l.Up:
		block := make([]byte, 256<<10)
		for left := l.Octets; left > 0; left -= int64(len(block)) {
			if _, err := c.Write(block); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	block := make([]byte, 256<<10)
	for left := l.Octets; left > 0; {
		n, err := c.Read(block)
		if left -= int64(n); err != nil {
			return err
		}
	}
	return nil
}
