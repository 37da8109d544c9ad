package smtp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
)

// A dialogue is a client in a bubble: what it waits for costs no time.
type dialogue struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	done chan error
}

func converse(t *testing.T, ctx context.Context, srv *Server) *dialogue {
	client, server := net.Pipe()
	d := &dialogue{t: t, conn: client, r: bufio.NewReader(client), done: make(chan error, 1)}
	go func() { d.done <- srv.ServeConn(ctx, server) }()
	return d
}

func (d *dialogue) say(s string) {
	d.t.Helper()
	if _, err := io.WriteString(d.conn, s); err != nil {
		d.t.Fatalf("say %q: %v", s, err)
	}
}

// pour says s while the test reads the replies; that it was not taken to its
// end shows in them.
func (d *dialogue) pour(s string) { go func() { _, _ = io.WriteString(d.conn, s) }() }

func (d *dialogue) expect(code string) {
	d.t.Helper()
	for {
		line, err := d.r.ReadString('\n')
		if err != nil {
			d.t.Fatalf("want %s, got %q and %v", code, line, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, code) {
			d.t.Fatalf("want %s, got %q", code, line)
		}
		return
	}
}

// ends waits for the server to close and returns how long that took and why.
func (d *dialogue) ends() (time.Duration, error) {
	start := time.Now()
	_, _ = io.Copy(io.Discard, d.r)
	return time.Since(start), <-d.done
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestTimes(t *testing.T) {
	const ready = "EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n"
	for _, c := range []struct {
		name  string
		drive func(d *dialogue)
		code  string
		after time.Duration
	}{
		{"silence after the banner", func(d *dialogue) { d.expect("220") }, "421", 5 * time.Minute},
		{"silence in a command", func(d *dialogue) { d.expect("220"); d.say("EHL") }, "421", time.Minute},
		{"silence in a message", func(d *dialogue) {
			d.expect("220")
			d.pour(ready + "DATA\r\nhello")
			for range 3 {
				d.expect("250")
			}
			d.expect("354")
		}, "421", 3 * time.Minute},
		{"silence in a chunk", func(d *dialogue) {
			d.expect("220")
			d.pour(ready + "BDAT 10 LAST\r\nhello")
			for range 3 {
				d.expect("250")
			}
		}, "421", 3 * time.Minute},
		{"silence between chunks", func(d *dialogue) {
			d.expect("220")
			d.pour(ready + "BDAT 5\r\nhello")
			for range 4 {
				d.expect("250")
			}
		}, "421", 5 * time.Minute},
		{"a message whose end is another's", func(d *dialogue) {
			d.expect("220")
			d.pour(ready + "DATA\r\nhello\n.\n")
			for range 3 {
				d.expect("250")
			}
			d.expect("354")
		}, "550", failedIdle},
	} {
		bubble(t, func(t *testing.T) {
			s := &sink{}
			d := converse(t, t.Context(), serverFor(s))
			start := time.Now()
			c.drive(d)
			d.expect(c.code)
			if took := time.Since(start); took != c.after {
				t.Errorf("%s: %s after %v, want %v", c.name, c.code, took, c.after)
			}
			if _, err := d.ends(); err == nil {
				t.Errorf("%s: the session ended without a reason", c.name)
			}
			if len(s.whole()) != 0 {
				t.Errorf("%s: took %q", c.name, s.whole())
			}
		})
	}
}

// TestSlowMessage: each octet comes in time, all together do not.
func TestSlowMessage(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		after  time.Duration
	}{
		{"slower than 500 octets a second", Limits{}, 3 * time.Minute},
		{"longer than half an hour", Limits{DataRate: -1}, 30 * time.Minute},
	} {
		bubble(t, func(t *testing.T) {
			srv := serverFor(&sink{})
			srv.Limits = c.limits
			d := converse(t, t.Context(), srv)
			d.expect("220")
			d.pour(begin + "DATA\r\n")
			for range 3 {
				d.expect("250")
			}
			d.expect("354")
			start := time.Now()
			var dripping sync.WaitGroup
			dripping.Go(func() {
				for {
					if _, err := io.WriteString(d.conn, "x\r\n"); err != nil {
						return
					}
					time.Sleep(10 * time.Second)
				}
			})
			d.expect("421")
			if took := time.Since(start); took < c.after-time.Second || took > c.after+11*time.Second {
				t.Errorf("%s: ended after %v, want %v", c.name, took, c.after)
			}
			_, _ = d.ends()
			dripping.Wait()
		})
	}
}

func TestShutdownWaitsForMessagesAndForNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &sink{}
		ctx, cancel := context.WithCancel(t.Context())
		idle, busy, stuck := converse(t, ctx, serverFor(&sink{})), converse(t, ctx, serverFor(s)), converse(t, ctx, serverFor(&sink{}))
		for _, d := range []*dialogue{idle, busy, stuck} {
			d.expect("220")
		}
		for _, d := range []*dialogue{busy, stuck} {
			d.pour(begin + "DATA\r\nhello\r\n")
			for range 3 {
				d.expect("250")
			}
			d.expect("354")
		}
		cancel()
		idle.expect("421")
		if took, err := idle.ends(); took != 0 || !errors.Is(err, ErrServerClosed) {
			t.Errorf("idle client: %v, %v", took, err)
		}
		time.Sleep(10 * time.Second)
		busy.say(".\r\n")
		busy.expect("250")
		busy.expect("421")
		if took, _ := busy.ends(); took != 0 {
			t.Errorf("busy client: %v", took)
		}
		if took, err := stuck.ends(); took != 20*time.Second || err == nil {
			t.Errorf("stuck client: %v, %v; want 20s", took, err)
		}
		if got := s.whole(); len(got) != 1 {
			t.Errorf("took %q, want one message", got)
		}
	})
}

// A greeter is a session that lets clients wait.
type greeter struct {
	sink
	early mail.Reply
	peer  *Peer
}

func (g *greeter) Pause() time.Duration             { return 6 * time.Second }
func (g *greeter) Early(context.Context) mail.Reply { return g.early }

func TestGreetPause(t *testing.T) {
	for _, c := range []struct {
		name  string
		early mail.Reply
		talk  bool
		code  string
		after time.Duration
	}{
		{"a client that waits", mail.NewReply(554, "5.5.1", "Talked before our greeting"), false, "220", 6 * time.Second},
		{"a client that does not", mail.NewReply(554, "5.5.1", "Talked before our greeting"), true, "554", 2 * time.Second},
		{"a client that does not, which is let in", mail.Reply{}, true, "220", 2 * time.Second},
	} {
		bubble(t, func(t *testing.T) {
			g := &greeter{early: c.early}
			srv := &Server{Name: "mx.example", Handler: HandlerFunc(func(_ context.Context, p *Peer) (Session, mail.Reply) {
				g.peer = p
				return g, mail.Reply{}
			})}
			d := converse(t, t.Context(), srv)
			start := time.Now()
			if c.talk {
				time.Sleep(2 * time.Second)
				d.say("QUIT\r\n")
			}
			d.expect(c.code)
			if took := time.Since(start); took != c.after {
				t.Errorf("%s: %s after %v, want %v", c.name, c.code, took, c.after)
			}
			if !c.talk {
				d.say("QUIT\r\n")
			}
			d.expect("221")
			if g.peer.Early != c.talk {
				t.Errorf("%s: Early is %v", c.name, g.peer.Early)
			}
		})
	}
}

func TestCensus(t *testing.T) {
	var s Census
	l := &Limits{Connections: 7, PerClient: 2, PerNetwork: 3, PerSite: 3}
	var leaves []func()
	for _, c := range []struct {
		addr string
		want int
	}{
		{"192.0.2.1", 0},
		{"192.0.2.1", 0},
		{"192.0.2.1", 421}, // a third of one client
		{"192.0.2.2", 0},
		{"192.0.2.3", 421}, // a fourth of one network
		{"2001:db8::1", 0},
		{"2001:db8::ffff", 0},
		{"2001:db8::2", 421},        // the same /64
		{"2001:db8:0:1::2", 0},      // another
		{"2001:db8:0:ff00::2", 421}, // the same /48
		{"2001:db8:1::2", 0},
		{"2001:db8:2::2", 421},    // full
		{"2001:db8:0:0:1::", 421}, // full
	} {
		leave, r := s.enter(netip.MustParseAddr(c.addr), l, false)
		if r.Code != c.want {
			t.Errorf("%s: %v, want %d", c.addr, r, c.want)
		}
		leaves = append(leaves, leave)
	}
	for _, leave := range leaves {
		leave()
	}
	if s.all != 0 || len(s.places) != 0 {
		t.Errorf("after all have left: %d %v", s.all, s.places)
	}
}

func TestTooManyConnections(t *testing.T) {
	srv := serverFor(&sink{})
	srv.Limits = Limits{PerClient: 1}
	srv.limits()
	leave, _ := srv.census().enter(netip.MustParseAddr("192.0.2.66"), srv.limits(), false)
	defer leave()
	if out, err := play(srv, 0, "QUIT\r\n"); codesOf(out) != "421" || err == nil {
		t.Errorf("%q %v", out, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	srv := serverFor(s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220") {
		t.Fatalf("%q %v", line, err)
	}
	cancel()
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 4.3.2") {
		t.Fatalf("%q %v", line, err)
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if len(s.ended) != 1 || !errors.Is(s.ended[0], ErrServerClosed) {
		t.Errorf("Close was called with %v", s.ended)
	}
}

func TestRunReportsItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := serverFor(&sink{}).Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run on a closed listener: %v", err)
	}
}
