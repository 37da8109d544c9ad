package lab

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/door"
	"postern/forward"
	"postern/mail"
	"postern/plan"
	"postern/probe"
	"postern/verdict"
)

// Each open proxy brings a message to the collector by the form that must
// prove it, from the address that it must come from, and no decoy brings any
// by any form of its door.
func TestProxiesAreWhatTheySay(t *testing.T) {
	source, at := collector(t)
	front, err := source.Front(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var only []string
	for _, s := range Specimens() {
		if s.Door == door.SOCKS || s.Door == door.Connect {
			only = append(only, s.Name)
		}
	}
	l, err := New(Options{Collector: at, Ports: front.Ports, Only: only})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l.Run)
	want := map[plan.Token]Running{}
	var players sync.WaitGroup
	for _, s := range l.Specimens {
		for _, f := range plan.At(s.Door) {
			if s.Form != "" && f.ID != s.Form || f.Set == plan.Info {
				continue
			}
			tokens, err := source.Tokens(t.Context(), 1, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if s.Form != "" {
				want[tokens[0]] = s
			}
			players.Go(func() {
				playAt(t, s, f, tokens[0], plan.Facts{Addr: s.Addr.Addr(), Front: front}, source.Recipient(tokens[0]))
			})
		}
	}
	players.Wait()
	opened := len(want)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for after := uint64(0); len(want) > 0; {
		list, next, err := source.Arrivals(ctx, after)
		if err != nil {
			t.Fatalf("%v; nothing came through %v", err, want)
		}
		after = next
		for _, a := range list {
			for _, token := range a.Tokens {
				s, ok := want[token]
				delete(want, token)
				if !ok || a.Kind != verdict.Message || a.Peer.Addr() != s.Egress {
					t.Errorf("%s: a %s from %s, want it from %s", s.Name, a.Kind, a.Peer, s.Egress)
				}
			}
		}
	}
	l.deliver.Wait() // what a decoy's mail server took, if it sent anything, has gone
	list, _, err := source.Arrivals(ctx, 0)
	if err != nil || len(list) != opened {
		t.Errorf("%d arrivals of %d open proxies, %v", len(list), opened, err)
	}
}

func playAt(t *testing.T, s Running, f plan.Form, token plan.Token, facts plan.Facts, to mail.Address) {
	t.Helper()
	e, missing := f.Expand(facts, token, to)
	if len(missing) > 0 {
		return // a decoy's form for a port or a family that the collector has not
	}
	p := probe.Proxy{Addr: s.Addr, Helo: "tester.example", Timeout: 2 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr.String())
	}}
	if s.TLS {
		p.TLS = probe.Implicit
	}
	play := probe.Play{Form: f, Envelope: e, Token: token, Message: probe.Message{Token: token, From: to, Recipient: to, Form: f.ID, Target: s.Addr.String(), Date: time.Now()}}
	if strings.HasSuffix(f.ID, "-guess") {
		play.Login = plan.Credential{User: "test", Password: "test"}
		if s.Door == door.SOCKS {
			play.Login = plan.Credential{User: "admin", Password: "admin"}
		}
	}
	var x verdict.Exchange
	var err error
	if s.Door == door.SOCKS {
		x, err = probe.SOCKS{Proxy: p}.Play(t.Context(), play)
	} else {
		x, err = probe.Connect{Proxy: p}.Play(t.Context(), play)
	}
	if s.Form != "" && (err != nil || x.Outcome != verdict.Taken) {
		t.Errorf("%s, %s: %s at %s (%s), %v\n%s", s.Name, f.ID, x.Outcome, x.Stage, x.Said, err, x.Transcript)
	}
}

// Where a proxy of the lab leads: to the collector, whatever it is asked for,
// and to nothing else on this machine or beyond.
func TestProxiesAreContained(t *testing.T) {
	w := World{Collector: netip.MustParseAddrPort("127.0.0.1:2499"), Ports: map[uint16]uint16{443: 2443, 25: 2499}}
	for _, c := range []struct {
		to   string
		port uint16 // 0: nowhere
	}{
		{"127.0.0.1:2499", 2499},
		{"mx.far.example:25", 2499},
		{"192.0.2.1:25", 2499},
		{"[2001:db8::1]:25", 2499},
		{"192.0.2.1:443", 2443},
		{"127.0.0.1:2443", 2443},
		{"127.0.0.1:22", 0},
		{"127.0.0.2:25", 0},
		{"[::1]:25", 0},
		{"192.0.2.1:80", 0},
		{"169.254.169.254:80", 0},
	} {
		to, err := forward.ParseAddress(c.to)
		if err != nil {
			t.Fatal(err)
		}
		if port, ok := w.leadsTo(to); port != c.port || ok != (c.port != 0) {
			t.Errorf("%s leads to port %d (%v), want %d", c.to, port, ok, c.port)
		}
	}
	for _, c := range []struct{ from, to string }{{"", "192.0.2.1:25"}, {"192.0.2.1", "127.0.0.1:25"}, {"", "[::ffff:192.0.2.1]:25"}} {
		var from netip.Addr
		if c.from != "" {
			from = netip.MustParseAddr(c.from)
		}
		if conn, err := dial(t.Context(), from, netip.MustParseAddrPort(c.to)); err == nil || err.Error() != errContained.Error() {
			t.Errorf("from %q to %s: %v, %v", c.from, c.to, conn, err)
		}
	}
	if _, err := (&Lab{}).behind(netip.MustParseAddr("192.0.2.1"), nil); err == nil {
		t.Error("a server beyond loopback")
	}
}
