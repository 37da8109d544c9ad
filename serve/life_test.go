package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A part that was silent for long ends the relay, and one that was slow does not.
func TestLife(t *testing.T) {
	silent := fmt.Errorf("the delivery: %w", errSilent)
	broken := errors.New("the queue: its disk fails")
	for _, c := range []struct {
		name   string
		rounds []error // what the one part says that is asked
		beats  string  // a point for each round with a beat of the one pulse
		dies   bool
	}{
		{"well", []error{nil, nil, nil, nil, nil}, ".....", false},
		{"silent as long as the patience lasts", []error{silent, silent, silent, silent}, "....", true},
		{"it comes back in time", []error{silent, silent, silent, nil, silent}, ".....", false},
		{"a failure that it tells of is a sign of life", []error{broken, broken, broken, broken, broken}, ".....", false},
		{"a loop that stands", []error{nil, nil, nil, nil}, ".   ", true},
		{"a loop that takes its time", []error{nil, nil, nil, nil}, ".  .", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l life
			l.begin()
			p := l.pulse("the watch", 3)
			var err error
			for i, sign := range c.rounds {
				if err != nil {
					t.Fatalf("round %d: dead already: %v", i, err)
				}
				if c.beats[i] == '.' {
					p.beat()
				}
				err = l.look(map[string]error{"asked": sign})
			}
			if (err != nil) != c.dies || err != nil && !errors.Is(err, errSilent) {
				t.Errorf("after %d rounds: %v; want dead: %v", len(c.rounds), err, c.dies)
			}
		})
	}
}

// earOf is an ear on a socket of its own. deaf: nobody accepts.
func earOf(t *testing.T, address string, deaf bool) (e *ear, clients <-chan net.Conn) {
	t.Helper()
	l := must(net.Listen("tcp", address))
	t.Cleanup(func() { l.Close() })
	socket, _ := l.(*net.TCPListener)
	e = must(newEar("mx", socket, &knocks{}, func(error) {}))
	t.Cleanup(func() { _ = e.Close() })
	let := make(chan net.Conn, 1)
	if !deaf {
		go func() {
			for {
				c, err := e.Accept()
				if err != nil {
					return
				}
				let <- c
			}
		}()
	}
	return e, let
}

// An open port is no sign that somebody listens.
func TestDeafEar(t *testing.T) {
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 2*knockPatience)
		t.Cleanup(cancel)
		return ctx
	}
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		hearing, clients := earOf(t, address, false)
		if err := hearing.hears(t.Context()); err != nil {
			t.Errorf("%s: one that hears: %v", address, err)
		}
		if err := hearing.empties(t.Context()); err != nil {
			t.Errorf("%s: nobody waits: %v", address, err)
		}
		client := must(net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), hearing.at.Port()).String()))
		defer client.Close()
		if c := <-clients; c.RemoteAddr().String() == "" || len(clients) > 0 {
			t.Errorf("%s: our knock was served as a client", address)
		}

		deaf, _ := earOf(t, address, true)
		if err := deaf.empties(t.Context()); err != nil {
			t.Errorf("%s: nobody waits: %v", address, err)
		}
		if err := deaf.hears(soon()); !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "is not let in") {
			t.Errorf("%s: a deaf one: %v", address, err)
		}
		waiting := must(net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), deaf.at.Port()).String()))
		defer waiting.Close()
		if err := deaf.empties(soon()); !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "and nobody is let in") {
			t.Errorf("%s: clients wait before a deaf one: %v", address, err)
		}
	}
}

// Whatever lives as long as the relay and ends before it ends the relay, with
// its name.
func TestPartThatEnds(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	s.Metrics = free(t)
	for _, c := range []struct {
		name string
		kill func(r *running)
		want string
	}{
		{"a listener", func(r *running) { _ = (*r.ears.Load())[indexOf(r, "mx")].Close() }, `listener "mx" on 127.0.0.1:`},
		{"the metrics", func(r *running) { _ = (*r.ears.Load())[indexOf(r, MetricsSocket)].Close() }, "metrics: "},
		{"the control socket", func(r *running) { r.control.Close() }, "control socket: "},
		{"the queue's watch", func(r *running) { _ = r.queue.Close() }, "queue: it has ended, and nobody told it to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			serving := make(chan Phase, 3)
			r := &running{t: t, settings: s, state: t.TempDir(), ended: make(chan error, 1), phase: func(p Phase) { serving <- p }}
			r.start()
			defer r.stop()
			<-serving
			c.kill(r)
			select {
			case err := <-r.ended:
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Run = %v, want %q", err, c.want)
				}
			case <-time.After(time.Minute):
				t.Fatal("the relay goes on")
			}
		})
	}
}

func indexOf(r *running, name string) int {
	for i, e := range *r.ears.Load() {
		if e.name == name {
			return i
		}
	}
	r.t.Fatalf("no ear called %s", name)
	return 0
}

func TestHealthSeesEveryListener(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	s.Metrics = free(t)
	serving := make(chan Phase, 3)
	r := &running{t: t, settings: s, state: t.TempDir(), ended: make(chan error, 1), phase: func(p Phase) { serving <- p }}
	r.start()
	defer r.end()
	<-serving
	if err := r.Healthy(t.Context()); err != nil {
		t.Errorf("well: %v", err)
	}
	signs := r.signs(t.Context())
	for _, part := range []string{"the queue", "the delivery", "the control socket", `listener "mx" on `, `listener "metrics" on `} {
		found := false
		for name := range signs {
			found = found || strings.HasPrefix(name, part)
		}
		if !found {
			t.Errorf("nobody asks %s: %v", part, signs)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*knockPatience)
	defer cancel()
	deaf, _ := earOf(t, "127.0.0.1:0", true)
	all := append(*r.ears.Load(), deaf)
	r.ears.Store(&all)
	if err := r.Healthy(ctx); !errors.Is(err, errSilent) || !strings.Contains(err.Error(), deaf.at.String()) {
		t.Errorf("with a deaf one: %v", err)
	}
}
