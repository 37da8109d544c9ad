package serve

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/policy"
	"postern/smtp"
)

// call sends a message with a name in EHLO and returns the last reply.
func (r *running) call(listener, helo, from, to string) string {
	r.t.Helper()
	conn := must(net.Dial("tcp", r.sockets.Load().addrs(listener)[0]))
	defer conn.Close()
	c := must(smtp.NewClient(r.t.Context(), conn, smtp.ClientOptions{}))
	if err := c.Hello(r.t.Context(), helo); err != nil {
		r.t.Fatal(err)
	}
	return r.send(c, from, to).String()
}

// A trusted client turns out to be a forwarder: its mail is refused, everybody
// who looks is told, and it lasts through a restart, until a reload.
func TestForwarderIsSuspended(t *testing.T) {
	s := only(loopback(ordinary()), "trusted")
	s.Metrics = free(t)
	s.Policy.Trusted[0].Networks[0].Prefix = netip.MustParsePrefix("127.0.0.1/32")
	s.Routes = []Route{{Domain: "default", TLS: "may", Hold: true}}
	r := run(t, s)
	const from, to = "<scanner@example.org>", "<b@far.example>"
	for _, name := range []string{"printer.example", "pc.bulk.example"} {
		if got := r.call("trusted", name, from, to); !strings.HasPrefix(got, "250") {
			t.Fatalf("%s: %s", name, got)
		}
	}
	refused := func(when, name string) {
		t.Helper()
		if got := r.call("trusted", name, from, to); !strings.HasPrefix(got, "451 4.7.1 This server cannot see your real address; its operator was told. Try later [") {
			t.Errorf("%s: %s", when, got)
		}
	}
	refused("the third name", "win-pc.bulk.example")
	refused("the printer from now on", "printer.example")
	if n := r.log.count(`level=ERROR msg="trust withdrawn: mail from this trusted client is refused`); n != 1 {
		t.Errorf("%d lines of the log tell of it", n)
	}
	if n := r.log.count(`identity=scanner why="127.0.0.1 greeted with more than 2 names: other clients hide behind that address"`); n != 1 {
		t.Errorf("%d lines say why", n)
	}
	known := func(when string) {
		t.Helper()
		var status Status
		r.get("/status", &status)
		var top Top
		r.get("/top", &top)
		var page TrafficPage
		r.get("/traffic?since="+time.Now().UTC().Format("2006-01-02T15:04:05Z"), &page)
		for _, list := range [][]Suspension{status.Suspended, top.Suspended, page.Suspended, must(Suspended(r.state))} {
			if len(list) != 1 || list[0].Client != "scanner" || !strings.Contains(list[0].Why, "more than 2 names") || time.Since(list[0].Since) > time.Minute {
				t.Errorf("%s: suspended: %+v", when, list)
			}
		}
		if _, text := get(t, "http://"+s.Metrics.String()+"/metrics"); !strings.Contains(text, "postern_suspended_clients 1\n") {
			t.Errorf("%s: no suspension in the metrics", when)
		}
		if text := r.Summary(t.Context()); !strings.Contains(text, "trusted clients suspended: 1 (postern top)") {
			t.Errorf("%s: %s", when, text)
		}
	}
	known("at once")
	r.end()
	r.start()
	known("after a restart")
	refused("after a restart", "printer.example")
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.call("trusted", "printer.example", from, to); !strings.HasPrefix(got, "250") {
		t.Errorf("after the operator has looked: %s", got)
	}
	if _, err := os.Stat(filepath.Join(r.state, suspendedFile)); !os.IsNotExist(err) {
		t.Errorf("it is remembered: %v", err)
	}
}

// Who is suspended must not be forgotten because a file cannot be read.
func TestDamagedSuspensions(t *testing.T) {
	for _, text := range []string{"{", `{"version":2,"suspended":[]}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, suspendedFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Suspended(dir); err == nil || !strings.Contains(err.Error(), "move the file away") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A balancer that passes on connections without a header is told of, and who
// only looks whether we listen is not.
func TestBalancerWithoutHeaders(t *testing.T) {
	s := only(loopback(ordinary()), "mx", "trusted")
	s.Listeners[0].Proxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	s.Policy.Listeners[0].ProxyFrom = []policy.Network{{Prefix: s.Listeners[0].Proxy[0]}}
	s.Policy.Trusted[0].Networks[0].Prefix = netip.MustParsePrefix("127.0.0.1/32")
	s.Policy.Trusted[0].Acknowledged = s.Listeners[0].Proxy
	r := run(t, s)
	for range 3 {
		conn := must(net.Dial("tcp", r.sockets.Load().addrs("mx")[0]))
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		must(conn.Write([]byte("EHLO spam.example\r\n")))
		if n, _ := conn.Read(make([]byte, 100)); n > 0 {
			t.Error("it was answered")
		}
		conn.Close()
	}
	var top Top
	until(t, "it is told of", func() bool {
		r.get("/top", &top)
		return len(top.Headerless) == 1 && top.Headerless[0].Connections == 3
	})
	if h := top.Headerless[0]; h.Listener != "mx" || h.Balancer.String() != "127.0.0.1" {
		t.Errorf("%+v", h)
	}
	if n := r.log.count("level=WARN msg=\"closed: a balancer passed on a connection without a PROXY header"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	// That alone takes no trust away: somebody may have tried by hand.
	if why := r.guard.Witness.Suspended("scanner"); why != "" {
		t.Error(why)
	}
}
