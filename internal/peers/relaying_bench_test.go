package peers

import (
	"bufio"
	"context"
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
	"syscall"
	"testing"
	"time"
)

// Where the tester's sinks are: one that takes all, and a port that nobody has.
const (
	sinkPort = "2626"
	deadPort = "2627"
)

// A rival relays what the tester sends to the tester's sink.
type rival struct {
	name  string
	port  string
	start func() setup
	slow  int // it gets a part of the messages: one of so many
}

var relays = []rival{
	{name: "postern", port: "2525", start: relayingPostern},
	{name: "postfix", port: "25", start: relayingPostfix("")},
	// What its tuning guide says for a machine that only relays.
	{name: "postfix tuned", port: "25", start: relayingPostfix("default_process_limit = 300\nsmtp_destination_concurrency_limit = 50\nin_flow_delay = 0\nqmgr_message_active_limit = 40000\nsmtp_connection_cache_on_demand = yes")},
	{name: "exim", port: "25", start: relayingExim, slow: 16},
	{name: "opensmtpd", port: "25", start: relayingOpenSMTPD, slow: 16},
}

func relayingPostern() setup {
	return setup{
		root: "tools", postern: true, ports: []string{"2525"}, disk: []string{"/var/lib/postern"},
		files: map[string]string{"etc/postern/postern.hcl": `hostname = "mx.victim.example"
state = "/var/lib/postern"
listener "trusted" { port = 2525 }
trusted_client "tester" {
  address = "` + Tester4 + `"
  may_send_as = ["*"]
  limit = "1000000000/h"
}
route "default" {
  via = "smarthost"
  host = "` + Tester4 + ":" + sinkPort + `"
}
route "dead.example" {
  via = "smarthost"
  host = "` + Tester4 + ":" + deadPort + `"
}
limits {
  connections_per_client = 500
  new_connections = "100000000/m"
  stranger_messages = "100000000/m"
  stranger_recipients = "100000000/m"
  stranger_bytes = "100TiB/m"
}
`},
		start: "mkdir -p /var/lib/postern\n/run/peers/postern serve --no-sandbox --config /etc/postern/postern.hcl 2>/dev/null >/dev/null &\n",
	}
}

func relayingPostfix(more string) func() setup {
	return func() setup {
		s := postfix("mynetworks = " + Tester4 + "/32\nrelayhost = [" + Tester4 + "]:" + sinkPort +
			"\ntransport_maps = inline:{ {dead.example=smtp:[" + Tester4 + "]:" + deadPort + "} }\nsmtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\nminimal_backoff_time = 300s\nqueue_run_delay = 300s\nmaillog_file =\n" + more)()
		s.disk = []string{"/var/spool/postfix", "/var/lib/postfix"}
		return s
	}
}

func relayingExim() setup {
	s := exim("dc_eximconfig_configtype='smarthost'\ndc_relay_nets='"+Tester4+"'\ndc_smarthost='"+Tester4+"::"+sinkPort+"'",
		"REMOTE_SMTP_SMARTHOST_HOSTS_REQUIRE_AUTH = :\nDCconfig_smarthost = 1", "",
		// As Exim's manual has it for a busy relay.
		`sed -i '1i smtp_accept_max = 300\nsmtp_accept_max_per_connection = 10000\nsmtp_accept_queue_per_connection = 10000\nqueue_run_max = 50\nremote_max_parallel = 20\nsmtp_accept_reserve = 0' /etc/exim4/exim4.conf.template`,
		`sed -i '/^begin routers/a dead:\n  driver = manualroute\n  domains = dead.example\n  transport = remote_smtp\n  route_list = * `+Tester4+`::`+deadPort+` byname\n' /etc/exim4/exim4.conf.template`)()
	s.disk = []string{"/var/spool/exim4"}
	return s
}

func relayingOpenSMTPD() setup {
	s := opensmtpd("")()
	s.files["etc/smtpd.conf"] = `
table aliases file:/etc/aliases
smtp limit max-mails 1000000
smtp limit max-rcpt 1000
listen on 0.0.0.0
action "out" relay host smtp://` + Tester4 + `:` + sinkPort + `
action "dead" relay host smtp://` + Tester4 + `:` + deadPort + `
match from src ` + Tester4 + ` for domain "dead.example" action "dead"
match from src ` + Tester4 + ` for any action "out"
`
	s.disk = []string{"/var/spool/smtpd"}
	return s
}

// A relayed load is what is sent through.
type load struct {
	name     string
	octets   int
	messages int
	reuse    bool // of connections
}

var loads = []load{
	{"4 KB, a connection for each message", 4 << 10, 8000, false},
	{"4 KB, connections used again", 4 << 10, 8000, true},
	{"1 MB, connections used again", 1 << 20, 400, true},
}

// A figure is what one run measured.
type figure struct {
	rate float64 // messages a second, from the first to the last at the sink
	cpu  float64 // microseconds of all of the relay's processes, for a message
	disk float64 // octets that the machine wrote to the disk, for a message
}

// TestRelayingSpeed measures relays beside each other in the same run, from
// smtp-source to smtp-sink, each with its durable defaults, and prints the
// tables of docs/benchmarks.md; bench/relay/run calls it.
func TestRelayingSpeed(t *testing.T) {
	Require(t)
	rounds, err := strconv.Atoi(os.Getenv("POSTERN_BENCH"))
	if err != nil || rounds < 1 {
		t.Skip("a measurement, not a test: run bench/relay/run, or set POSTERN_BENCH to a number of rounds")
	}
	only := os.Getenv("POSTERN_BENCH_ONLY")
	targets := map[string]*Target{}
	sinks := map[string]*drain{}
	var names []string
	for _, c := range relays {
		if only != "" && !slices.Contains(strings.Split(only, ","), c.name) {
			continue
		}
		targets[c.name] = Start(t, Case{Server: c.name, Config: "relaying", Family: "4", setup: c.start})
		sinks[c.name] = newDrain(t, targets[c.name])
		names = append(names, c.name)
	}
	fmt.Printf("%d cores, %s\n\n", runtime.NumCPU(), runtime.Version())
	fmt.Print("| load | relay | messages/s | CPU us/message | disk KB/message |\n| --- | --- | ---: | ---: | ---: |\n")
	for _, l := range loads {
		got := map[string][]figure{}
		for range rounds { // in turns, so that a busy minute of the machine meets all
			for _, c := range relays {
				if target := targets[c.name]; target != nil {
					got[c.name] = append(got[c.name], target.relayed(t, c, l, sinks[c.name]))
				}
			}
			if target := targets[names[0]]; target != nil {
				direct := rival{name: "direct"}
				got["direct"] = append(got["direct"], target.relayed(t, direct, l, sinks[names[0]]))
			}
		}
		for _, name := range append(names, "direct") {
			f := got[name]
			fmt.Printf("| %s | %s | %.0f | %.0f | %.1f |\n", l.name, name,
				middleOf(f, func(f figure) float64 { return f.rate }), middleOf(f, func(f figure) float64 { return f.cpu }), middleOf(f, func(f figure) float64 { return f.disk })/1024)
		}
	}
	fmt.Print("\n| relay | memory MB | deferred for a dead destination | taken in, messages/s | a fresh message leaves after |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, c := range relays {
		// What the slow ones would need for this is an hour.
		if target := targets[c.name]; target != nil && c.slow == 0 {
			target.pastTheDead(t, c, sinks[c.name])
		}
	}
}

func middleOf(list []figure, of func(figure) float64) float64 {
	var values []float64
	for _, f := range list {
		values = append(values, of(f))
	}
	return middle(values)
}

// postfixTool is the command that runs a program of Debian's Postfix on the tester's side.
func postfixTool(t testing.TB, program string, args ...string) []string {
	t.Helper()
	root, err := Root(t.Context(), "postfix")
	if err != nil {
		t.Fatal(err)
	}
	return inRoot(root, "usr/sbin/"+program, args...)
}

// A drain is an smtp-sink on the tester's side, which tells how much it has got.
type drain struct {
	got     atomic.Int64
	changed chan struct{}
}

func newDrain(t *testing.T, target *Target) *drain {
	t.Helper()
	s := &drain{changed: make(chan struct{}, 1)}
	cmd := target.Tester(postfixTool(t, "smtp-sink", "-u", "nobody", "-c", Tester4+":"+sinkPort, "1000")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		words := bufio.NewScanner(out)
		words.Split(byReturn)
		for words.Scan() {
			_, count, _ := strings.Cut(words.Text(), "mesg=")
			if n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64); err == nil {
				s.got.Store(n)
				select {
				case s.changed <- struct{}{}:
				default:
				}
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		reading.Wait()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := target.await(ctx, net.JoinHostPort(Tester4, sinkPort)); err != nil {
		t.Fatal(err)
	}
	return s
}

// byReturn splits at carriage returns, as smtp-sink writes its counter.
func byReturn(data []byte, atEOF bool) (int, []byte, error) {
	if i := slices.Index(data, '\r'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF {
		return 0, nil, io.EOF
	}
	return 0, nil, nil
}

// until waits until the sink has got n messages.
func (s *drain) until(t *testing.T, n int64) {
	t.Helper()
	limit := time.NewTimer(10 * time.Minute)
	defer limit.Stop()
	for s.got.Load() < n {
		select {
		case <-s.changed:
		case <-limit.C:
			t.Fatalf("the sink has %d messages of %d", s.got.Load(), n)
		}
	}
}

// source sends messages from the tester's side to the target, or past it to the sink.
func (t *Target) source(tb testing.TB, c rival, l load, to string) {
	tb.Helper()
	args := []string{"-s", "50", "-m", strconv.Itoa(l.messages), "-l", strconv.Itoa(l.octets), "-f", "sender@victim.example", "-t", to}
	if l.reuse {
		args = append(args, "-d")
	}
	at := net.JoinHostPort(Target4, c.port)
	if c.name == "direct" {
		at = net.JoinHostPort(Tester4, sinkPort)
	}
	cmd := t.Tester(postfixTool(tb, "smtp-source", append(args, at)...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("smtp-source to %s: %v\n%s", c.name, err, out)
	}
}

// relayed sends a load through and waits for its last message.
func (t *Target) relayed(tb *testing.T, c rival, l load, s *drain) figure {
	tb.Helper()
	if c.slow > 0 {
		l.messages = max(l.messages/c.slow, 50)
	}
	want := s.got.Load() + int64(l.messages)
	cpu, disk, began := t.cpu(tb), written(tb), time.Now()
	t.source(tb, c, l, "someone@far.example")
	s.until(tb, want)
	took := time.Since(began)
	time.Sleep(500 * time.Millisecond) // what is left to do after the last message belongs to it
	n := float64(l.messages)
	f := figure{rate: n / took.Seconds(), cpu: float64(t.cpu(tb)-cpu) / n / float64(time.Microsecond), disk: float64(written(tb)-disk) / n}
	if c.name == "direct" {
		f.cpu, f.disk = 0, 0
	}
	return f
}

// deadMessages wait for a destination that does not answer.
const deadMessages = 20_000

// pastTheDead measures how long a fresh message takes to leave while many are
// deferred for a destination that does not answer.
func (t *Target) pastTheDead(tb *testing.T, c rival, s *drain) {
	tb.Helper()
	n := deadMessages
	began := time.Now()
	t.source(tb, c, load{octets: 1 << 10, messages: n, reuse: true}, "someone@dead.example")
	rate := float64(n) / time.Since(began).Seconds()
	time.Sleep(15 * time.Second) // all of them are deferred by then, or as far as it has come
	var took []float64
	for range 5 {
		want := s.got.Load() + 1
		began := time.Now()
		t.source(tb, c, load{octets: 1 << 10, messages: 1}, "someone@far.example")
		s.until(tb, want)
		took = append(took, time.Since(began).Seconds())
	}
	fmt.Printf("| %s | %.0f | %d | %.0f | %.3f s |\n", c.name, float64(t.memory(tb))/1024, n, rate, middle(took))
}

// written is what the machine has written to the disk that holds the temporary folder, in octets.
func written(tb testing.TB) int64 {
	tb.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(os.TempDir(), &st); err != nil {
		tb.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("/sys/dev/block", fmt.Sprintf("%d:%d", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00), "stat"))
	if err != nil {
		return 0 // a disk that is no block device
	}
	fields := strings.Fields(string(text))
	n, err := strconv.ParseInt(fields[6], 10, 64) // sectors of 512 octets (Documentation/block/stat.rst)
	if err != nil {
		tb.Fatal(err)
	}
	return n * 512
}
