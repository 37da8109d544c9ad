package check_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/smtp"
	"postern/verdict"
)

// In the bubble of a test nothing but pipes carries bytes, and time passes
// only when everybody waits: the pauses of a polite check cost nothing.

// a world is one server, reached through pipes, and a collector that sees
// whatever the server hands on.
type world struct {
	server interface {
		ServeConn(ctx context.Context, c net.Conn) error
	}
	mu       sync.Mutex
	arrivals []verdict.Arrival
	fresh    chan struct{}
	dials    int
	limit    func(n int) bool // whether the n-th connection is turned away with 421
	sessions sync.WaitGroup
	unnamed  bool           // nobody says which domain the server has
	handed   []mail.Address // to whom the server handed mail on
}

func (w *world) Domain() string                  { return "probe.example" }
func (w *world) Preflight(context.Context) error { return nil }
func (w *world) Recipient(t plan.Token) mail.Address {
	a, _ := mail.ParseAddress(string(t) + "@probe.example")
	return a
}

func (w *world) Tokens(_ context.Context, n int, ttl time.Duration) ([]plan.Token, error) {
	var all []plan.Token
	for i := range n {
		all = append(all, plan.Mint([]byte("k"), [5]byte{byte(i), byte(i >> 8)}, time.Now().Add(ttl)))
	}
	return all, nil
}

func (w *world) Arrivals(ctx context.Context, after uint64) ([]verdict.Arrival, uint64, error) {
	for {
		w.mu.Lock()
		list := w.arrivals[after:]
		w.mu.Unlock()
		if len(list) > 0 {
			return list, after + uint64(len(list)), nil
		}
		select {
		case <-w.fresh:
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
}

// Take makes the world a sink of an open server: whatever it gets arrives.
func (w *world) Take(_ context.Context, m open.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handed = append(w.handed, m.To...)
	if len(m.Bounce) > 0 && !m.From.Null() {
		w.arrivals = append(w.arrivals, verdict.Arrival{Tokens: plan.FindTokens(m.From.String(), 1), Kind: verdict.Bounce})
	}
	for _, to := range m.To {
		if to.Domain().String() != w.Domain() {
			continue
		}
		w.arrivals = append(w.arrivals, verdict.Arrival{
			Tokens: plan.FindTokens(to.String(), 1), Kind: verdict.Message, Header: string(m.Body),
			Peer: netip.MustParseAddrPort("203.0.113.10:40000"), Seen: verdict.SeenByPeer,
		})
	}
	select {
	case w.fresh <- struct{}{}:
	default:
	}
	return nil
}

func (w *world) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	w.dials++
	n := w.dials
	w.mu.Unlock()
	client, server := net.Pipe()
	w.sessions.Go(func() {
		if w.limit != nil && w.limit(n) {
			_, _ = server.Write([]byte("421 4.3.2 too many connections from you\r\n"))
			_ = server.Close()
			return
		}
		_ = w.server.ServeConn(context.WithoutCancel(ctx), server)
	})
	return newBuffered(client), nil
}

// A buffered connection takes what is written at once, as a kernel does; on a
// bare pipe a client and a server that both speak first wait for each other.
type buffered struct {
	net.Conn
	out chan []byte
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, out: make(chan []byte, 1000)}
	go func() {
		for p := range b.out {
			if _, err := c.Write(p); err != nil {
				continue // drain, so that nobody blocks
			}
		}
		_ = c.Close()
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.out <- bytes.Clone(p)
	return len(p), nil
}

// Close closes once what was written has gone out.
func (b *buffered) Close() error {
	close(b.out)
	return nil
}

func domain(t *testing.T, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func postmasterOnly(_ context.Context, a open.Asked) open.Answer {
	if strings.EqualFold(a.To.String(), "<postmaster@ours.example>") {
		return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Fate: open.Keep}
	}
	return open.Answer{Reply: mail.NewReply(550, "5.7.1", "relaying denied")}
}

// audit checks the world's server and returns its judgement and how long it took.
func (w *world) audit(t *testing.T, o check.Options) (verdict.Judgement, time.Duration) {
	t.Helper()
	w.fresh = make(chan struct{}, 1)
	o.Collector, o.Dial, o.Owned = w, w.dial, true
	o.Helo, o.Ports = "tester.example", []uint16{25}
	if !w.unnamed {
		o.Domain = domain(t, "ours.example")
	}
	if o.Pace == 0 {
		o.Pace = time.Second
	}
	target, err := plan.ParseTarget("203.0.113.10")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	report, err := check.Run(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	w.sessions.Wait()
	return report.Addresses[0].Doors[0].Judgement, took
}

func limits() smtp.Limits { return smtp.Limits{PerClient: -1, PerNetwork: -1, Connections: -1} }

func TestOpenByProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Limits: limits()}
		j, _ := w.audit(t, check.Options{Wait: time.Minute})
		if j.Verdict != verdict.Open || j.Proof == nil || j.Proof.Form.ID != "plain" {
			t.Errorf("%s: %s", j.Verdict, j.Why)
		}
	})
}

func TestClosedNeedsNoWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: postmasterOnly, Limits: limits()}
		j, took := w.audit(t, check.Options{Wait: time.Hour, Quick: true})
		if j.Verdict != verdict.Closed || j.Tested != 1 {
			t.Errorf("%s, %.0f %% tested: %s", j.Verdict, 100*j.Tested, j.Why)
		}
		if took > time.Second {
			t.Errorf("a quick check of a closed server that answers at once took %s", took)
		}
	})
}

// The pace: with more sessions than the burst, they come one a second.
func TestSessionsKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: postmasterOnly, Limits: limits()}
		j, took := w.audit(t, check.Options{Wait: time.Minute})
		if j.Verdict != verdict.Closed {
			t.Errorf("%s: %s", j.Verdict, j.Why)
		}
		if least := time.Duration(w.dials-11) * time.Second; took < least {
			t.Errorf("%d sessions in %s, want at least %s", w.dials, took, least)
		}
	})
}

// A server that counts ten connections a minute, what it turns away included,
// gets its battery all the same.
func TestRateLimitIsOutwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: postmasterOnly, Limits: limits()}
		var recent []time.Time
		var mu sync.Mutex
		w.limit = func(int) bool {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			var kept []time.Time
			for _, at := range recent {
				if now.Sub(at) < time.Minute {
					kept = append(kept, at)
				}
			}
			recent = append(kept, now)
			return len(recent) > 10
		}
		j, took := w.audit(t, check.Options{Wait: time.Minute})
		if j.Verdict != verdict.Closed || j.Tested != 1 {
			t.Errorf("%s after %s, %.0f %% tested: %s", j.Verdict, took, 100*j.Tested, j.Why)
		}
		if took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// A server that turns every session away ends in doubt, soon, and is never closed.
func TestTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: postmasterOnly, Limits: limits()}
		w.limit = func(n int) bool { return n > 2 }
		j, took := w.audit(t, check.Options{Wait: time.Minute})
		if j.Verdict != verdict.Inconclusive || !strings.Contains(j.Why, "too many connections") {
			t.Errorf("%s: %s; want inconclusive, with the server's words", j.Verdict, j.Why)
		}
		if took > 15*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// Greylisting: the same envelope comes again, and what is behind it is judged.
func TestGreylistedOpenRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		seen := map[string]time.Time{}
		var mu sync.Mutex
		rule := func(_ context.Context, a open.Asked) open.Answer {
			mu.Lock()
			defer mu.Unlock()
			key := a.From.String() + a.To.String()
			if first, known := seen[key]; !known || time.Since(first) < 5*time.Minute {
				if !known {
					seen[key] = time.Now()
				}
				return open.Answer{Reply: mail.NewReply(450, "4.2.0", "greylisted for 5 minutes")}
			}
			return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: a.To.Address()}
		}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: rule, Limits: limits()}
		if j, _ := w.audit(t, check.Options{Wait: time.Minute, Quick: true}); j.Verdict != verdict.Inconclusive || !strings.Contains(j.Why, "greylisted") {
			t.Errorf("with a minute's patience: %s: %s", j.Verdict, j.Why)
		}
		w2 := &world{server: nil}
		w2.server = open.SMTP{Name: "mx.ours.example", Sink: w2, Rule: rule, Limits: limits()}
		if j, _ := w2.audit(t, check.Options{Wait: 30 * time.Minute, Quick: true}); j.Verdict != verdict.Open {
			t.Errorf("with half an hour's patience: %s: %s", j.Verdict, j.Why)
		}
	})
}

// An arrival within the patience flips accepts; none leaves it.
func TestLateArrival(t *testing.T) {
	for _, c := range []struct {
		delay time.Duration
		want  verdict.Verdict
	}{{90 * time.Second, verdict.Open}, {5 * time.Minute, verdict.Accepts}} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{}
			w.server = open.SMTP{Name: "mx.ours.example", Sink: slow{w, c.delay}, Limits: limits()}
			j, _ := w.audit(t, check.Options{Wait: 2 * time.Minute, Quick: true})
			if j.Verdict != c.want {
				t.Errorf("a message that takes %s: %s, want %s", c.delay, j.Verdict, c.want)
			}
			time.Sleep(c.delay)
			synctest.Wait()
		})
	}
}

// slow is a sink whose messages travel for a while.
type slow struct {
	w     *world
	delay time.Duration
}

func (s slow) Take(ctx context.Context, m open.Message) error {
	time.AfterFunc(s.delay, func() { _ = s.w.Take(context.WithoutCancel(ctx), m) })
	return nil
}

func TestOnlyOwnMachines(t *testing.T) {
	target, err := plan.ParseTarget("192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = check.Run(t.Context(), target, check.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("a machine that is not ours was knocked at")
		return nil, net.ErrClosed
	}})
	var notOurs *check.NotOursError
	if err == nil || !errors.As(err, &notOurs) {
		t.Errorf("a stranger's machine: %v, want a NotOursError", err)
	}
}

// An open relay takes mail for its guessed domain too. The guess may be
// anybody's name, so no message goes there.
func TestNoMailToAGuessedDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{unnamed: true}
		w.server = open.SMTP{Name: "host-1.cloud.example", Sink: w, Limits: limits()}
		j, _ := w.audit(t, check.Options{Wait: time.Minute})
		if j.Verdict != verdict.Open {
			t.Errorf("%s: %s", j.Verdict, j.Why)
		}
		for _, to := range w.handed {
			if d := to.Domain().String(); d == "cloud.example" || to.Local() == "postmaster" {
				t.Errorf("a message to %s", to)
			}
		}
	})
}

// A notice about one form does not end the waiting for another.
func TestNoticeFirstRelayLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		rule := func(ctx context.Context, a open.Asked) open.Answer {
			if own := postmasterOnly(ctx, a); own.Reply.Positive() {
				return own
			}
			if strings.HasSuffix(a.From.Address().String(), "@ours.example") {
				return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: a.To.Address()}
			}
			return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Fate: open.Bounce}
		}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: lateRelay{w}, Rule: rule, Limits: limits()}
		if j, _ := w.audit(t, check.Options{Wait: time.Minute, Quick: true}); j.Verdict != verdict.Open {
			t.Errorf("%s: %s", j.Verdict, j.Why)
		}
		time.Sleep(time.Minute)
	})
}

// lateRelay returns at once and relays after six seconds.
type lateRelay struct{ w *world }

func (s lateRelay) Take(ctx context.Context, m open.Message) error {
	if len(m.To) == 0 {
		return s.w.Take(ctx, m)
	}
	return slow{s.w, 6 * time.Second}.Take(ctx, m)
}

// Who stops a check gets what is known, and never a verdict of closed.
func TestStoppedIsNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{fresh: make(chan struct{}, 1)}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: postmasterOnly, Limits: limits(), Pause: 5 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		target, err := plan.ParseTarget("203.0.113.10:25")
		if err != nil {
			t.Fatal(err)
		}
		report, err := check.Run(ctx, target, check.Options{Collector: w, Dial: w.dial, Owned: true, Domain: domain(t, "ours.example"), Helo: "t.example"})
		if err != nil {
			t.Fatal(err)
		}
		w.sessions.Wait()
		if v := report.Verdict(); v == verdict.Closed {
			t.Errorf("stopped after 7 seconds of 5-second banners: %s", v)
		}
	})
}
