package serve

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/problem"
	"postern/internal/systemd"
)

// handed is a socket as the manager passes it.
func handed(t *testing.T, name, address string) systemd.Socket {
	t.Helper()
	network := "tcp4"
	if strings.HasPrefix(address, "[") {
		network = "tcp6"
	}
	both := strings.HasPrefix(name, "both")
	if both {
		network = "tcp"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		t.Fatalf("%T is no TCP listener", l)
	}
	return systemd.Socket{Name: name, Listener: tcp, Both: both}
}

func TestPassedSockets(t *testing.T) {
	at := func(name string, addrs ...string) Listener {
		l := Listener{Name: name, At: problem.Pos{File: "postern.hcl", Line: 1, Column: 1}}
		for _, a := range addrs {
			l.Addrs = append(l.Addrs, netip.MustParseAddrPort(a))
		}
		return l
	}
	mx, other := handed(t, "postern.socket", "127.0.0.1:0"), handed(t, "submission", "127.0.0.1:0")
	both := handed(t, "both", "[::]:0")
	port := both.Addr().Port()
	four, six := netip.AddrPortFrom(netip.IPv4Unspecified(), port).String(), netip.AddrPortFrom(netip.IPv6Unspecified(), port).String()
	for _, c := range []struct {
		name      string
		listeners []Listener
		passed    []systemd.Socket
		want      map[string][]string // where each listener is
		err       string
	}{
		{
			"by address",
			[]Listener{at("mx", mx.Addr().String())},
			[]systemd.Socket{mx},
			map[string][]string{"mx": {mx.Addr().String()}},
			"",
		},
		{
			"by name, wherever the configuration says",
			[]Listener{at("submission", "0.0.0.0:1", "[::]:1")},
			[]systemd.Socket{other},
			map[string][]string{"submission": {other.Addr().String()}},
			"",
		},
		{
			"both ways",
			[]Listener{at("mx", mx.Addr().String()), at("submission", "127.0.0.1:1")},
			[]systemd.Socket{mx, other},
			map[string][]string{"mx": {mx.Addr().String()}, "submission": {other.Addr().String()}},
			"",
		},
		{
			"of both families",
			[]Listener{at("mx", four, six)},
			[]systemd.Socket{both},
			map[string][]string{"mx": {both.Addr().String()}},
			"",
		},
		{
			"of no listener",
			[]Listener{at("mx", "127.0.0.1:1")},
			[]systemd.Socket{mx},
			nil, `postern.hcl: systemd passes the socket ` + mx.Addr().String() + ` ("postern.socket"), and no listener has that address or name; give a listener that address and port, or write FileDescriptorName=`,
		},
		{
			"of two listeners",
			[]Listener{at("mx", four), at("submission", six)},
			[]systemd.Socket{both},
			nil, "IPv4 and IPv6 are of two listeners: mx, submission; write BindIPv6Only=ipv6-only",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Bind(c.listeners, c.passed)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v\nwant %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for name, where := range c.want {
				if got := s.addrs(name); !slices.Equal(got, where) {
					t.Errorf("%s is at %v, want %v", name, got, where)
				}
			}
			again, err := bind(c.listeners, s) // a reload keeps them
			if err != nil || len(again.bound) != len(s.bound) {
				t.Fatalf("again: %v, %v", again, err)
			}
			for key, l := range s.bound {
				if again.bound[key] != l {
					t.Errorf("%v was replaced", key)
				}
			}
		})
	}
}

// A reload that leaves a passed socket without a listener is refused: its
// clients would wait for ever.
func TestReloadNeedsEveryPassedSocket(t *testing.T) {
	p := handed(t, "mx", "127.0.0.1:0")
	s, err := Bind([]Listener{{Name: "mx"}}, []systemd.Socket{p})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bind([]Listener{{Name: "other"}}, s); err == nil || !strings.Contains(err.Error(), "no listener has that address or name") {
		t.Errorf("bind = %v", err)
	}
}

func TestPhasesAndHealth(t *testing.T) {
	told := make(chan Phase, 10)
	r := &running{t: t, settings: only(loopback(ordinary()), "mx"), state: t.TempDir() + "/s", ended: make(chan error, 1), phase: func(p Phase) { told <- p }}
	r.start()
	if p := <-told; p != Serving {
		t.Errorf("first %v", p)
	}
	if err := r.Healthy(t.Context()); err != nil {
		t.Errorf("Healthy = %v", err)
	}
	if got := r.Summary(t.Context()); !strings.HasPrefix(got, "closed; 1 listener; 0 messages wait; audited 2") {
		t.Errorf("Summary = %q", got)
	}
	if err := r.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if one, two := <-told, <-told; one != Reloading || two != Serving {
		t.Errorf("a reload: %v, %v", one, two)
	}
	r.end()
	if p := <-told; p != Stopping {
		t.Errorf("last %v", p)
	}
	over, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Healthy(over); err == nil {
		t.Error("a relay that has ended is not healthy")
	}
}

// The drain is bounded: a client that trickles is cut off, one that waits for
// nothing is told to come again, and what was answered 250 to is kept.
func TestDrain(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	s.Engine.Drain = 100 * time.Millisecond
	r := run(t, s)
	r.send(r.dial("mx"), "<a@far.example>", "<anna@example.org>")
	idle, slow := r.dialRaw("mx"), r.dialRaw("mx")
	slow.say("EHLO slow.example", "250")
	slow.say("MAIL FROM:<a@far.example>", "250")
	slow.say("RCPT TO:<anna@example.org>", "250")
	slow.say("DATA", "354")
	slow.write("Subject: for ever\r\n")
	r.end() // fails, by the test's own limit, when it is not bounded
	if got := idle.rest(); !strings.HasPrefix(got, "421 4.3.2 ") {
		t.Errorf("the idle client was told %q", got)
	}
	if got := slow.rest(); strings.HasPrefix(got, "250") {
		t.Errorf("the slow client was told %q", got)
	}
	r.start()
	if list := r.queued(); len(list) != 1 {
		t.Errorf("%d messages, want the one that was answered 250 to", len(list))
	}
}

// A rawClient speaks as no library would.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (r *running) dialRaw(listener string) *rawClient {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.sockets.Load().addrs(listener)[0])
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	c := &rawClient{r.t, conn, bufio.NewReader(conn)}
	c.expect("220")
	return c
}

func (c *rawClient) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) say(line, want string) {
	c.t.Helper()
	c.write(line + "\r\n")
	c.expect(want)
}

// expect reads one reply.
func (c *rawClient) expect(want string) {
	c.t.Helper()
	for {
		line, err := c.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			c.t.Fatalf("%q, %v; want %s", line, err, want)
		}
		if line[3] == ' ' {
			return
		}
	}
}

// rest is what is still said before the end.
func (c *rawClient) rest() string {
	b, _ := io.ReadAll(c.in) // a reset is an end as well
	return string(b)
}
