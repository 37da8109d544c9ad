package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/check"
	"postern/collect"
	"postern/door"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/verdict"
)

// fixed resolves the one name that the lab uses, to both families.
type fixed struct{}

func (fixed) Addresses(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, nil
}

func (fixed) Exchangers(_ context.Context, name string) ([]string, error) { return []string{name}, nil }
func (fixed) Names(context.Context, netip.Addr) ([]string, error)         { return nil, nil }

// collector runs a collector on loopback until the test ends.
func collector(t *testing.T) (*collect.Local, netip.AddrPort) {
	t.Helper()
	var listeners []net.Listener
	var at [2]netip.AddrPort
	for i := range at {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners, at[i] = append(listeners, l), netip.MustParseAddrPort(l.Addr().String())
	}
	c, err := collect.NewLocal(collect.Config{
		Domain: Collector, Zone: Collector, Listeners: listeners, Reach: at[:1], Ports: map[uint16]uint16{443: at[1].Port()},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	return c, at[0]
}

// run starts a server and ends it, and waits for it, with the test.
func run(t *testing.T, serve func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// lookup answers as the collector's zone does: a name of a test has the
// target as its second MX, the collector's own domain has one only.
func lookup(_ context.Context, domain string) []netip.Addr {
	one := netip.MustParseAddr("127.0.0.1")
	if strings.HasPrefix(domain, "b-") {
		return []netip.Addr{one, one}
	}
	return []netip.Addr{one}
}

// Every specimen gets the verdict that it deserves, by the form that must
// prove it, and no decoy is called open.
func TestEverySpecimenGetsItsVerdict(t *testing.T) {
	source, at := collector(t)
	front, err := source.Front(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(Options{Collector: at, Ports: front.Ports, Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l.Run)
	results, err := Check(t.Context(), l, check.Options{
		Collector: source, Domain: Domain, RelayDomain: RelayDomain, TryLogins: true, LoginPause: 10 * time.Millisecond, Wait: 8 * time.Second,
		Timeout: 6 * time.Second, Helo: "tester.example", Resolver: fixed{}, CollectorIP: at.Addr(),
		Backup: func(a netip.Addr, host mail.Domain) mail.Domain { return collect.BackupNameOf(Collector, a, host) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(results)+len(l.Skipped) != len(Specimens()) {
		t.Errorf("%d results and %d skipped of %d specimens", len(results), len(l.Skipped), len(Specimens()))
	}
	for _, r := range results {
		if !r.Right() {
			t.Errorf("%s (%s): %s by way of %q from %s, backscatter %v, arrived %v (%s)\nwant %s by way of %q from %s, backscatter %v, by %q\npostern lab --check --only %s",
				r.Name, r.What, r.Got, r.GotKind, r.GotEgress, r.GotBackscatter, r.Arrived, r.Why, r.Want, r.Kind, r.Egress, r.Backscatter, r.Form, r.Name)
		}
	}
}

func TestSpecimensAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Specimens() {
		if seen[s.Name] || s.Name == "" || s.What == "" {
			t.Errorf("specimen %q: names are unique, and each says what it is", s.Name)
		}
		seen[s.Name] = true
		if _, ok := plan.Find(s.Form); s.Form != "" && !ok {
			t.Errorf("%s: no form %q", s.Name, s.Form)
		}
		if (s.Want == verdict.Open) != (s.Form != "") {
			t.Errorf("%s: an open specimen, and only it, names the form that proves it", s.Name)
		}
		if (s.Server == nil) != (s.Wire == Mute || s.Wire == NotSMTP || s.Gate != nil) {
			t.Errorf("%s: a specimen that speaks SMTP has a server, every other a gate", s.Name)
		}
		if f, ok := plan.Find(s.Form); ok && f.Door != s.Door && (f.Door != door.SMTP || s.Door != door.Forward) {
			t.Errorf("%s stands at the door %s, and its form at %s", s.Name, s.Door, f.Door)
		}
		if s.Host.IsValid() && !s.Host.IsLoopback() || s.Egress.IsValid() && !s.Egress.IsLoopback() {
			t.Errorf("%s: %s and %s are not both of loopback", s.Name, s.Host, s.Egress)
		}
	}
}

// The lab listens on loopback and hands on to loopback, whatever it is told.
func TestContainment(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "192.0.2.1", "::", "10.0.0.1"} {
		if l, err := New(Options{Host: netip.MustParseAddr(host)}); err == nil {
			_ = l.Close()
			t.Errorf("the lab listens on %s", host)
		}
	}
	var mu sync.Mutex
	var told error
	l := &sink{collector: netip.MustParseAddrPort("192.0.2.1:25"), running: &sync.WaitGroup{}, handed: func(_ open.Message, err error) {
		mu.Lock()
		defer mu.Unlock()
		told = err
	}}
	a, err := mail.ParseAddress("anybody@far.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Take(t.Context(), open.Message{From: mail.NullPath(), To: []mail.Address{a}}); err != nil {
		t.Fatal(err)
	}
	l.running.Wait()
	mu.Lock()
	defer mu.Unlock()
	if told == nil || told.Error() != errContained.Error() {
		t.Errorf("a sink beyond loopback: %v, want %v", told, errContained)
	}
}

func TestUnknownSpecimen(t *testing.T) {
	if _, err := New(Options{Only: []string{"no-such"}}); err == nil || !strings.Contains(err.Error(), "--list") {
		t.Errorf("an unknown name: %v, want a hint at --list", err)
	}
}

// A check of one specimen of the lab, as another program would do it.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	at := netip.MustParseAddrPort(listener.Addr().String())
	source, err := collect.NewLocal(collect.Config{Domain: Collector, Listeners: []net.Listener{listener}, Reach: []netip.AddrPort{at}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	l, err := New(Options{Collector: at, Only: []string{"open"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = source.Run(ctx) })
	wg.Go(func() { _ = l.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	target, err := plan.ParseTarget(l.Specimens[0].Addr.String())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	report, err := check.Run(ctx, target, check.Options{Collector: source, Domain: Domain, Quick: true, Wait: 10 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	proof := report.Addresses[0].Doors[0].Proof
	fmt.Println(report.Verdict(), "by", proof.Form.ID, "from", proof.Egress)
	// Output: open by plain from 127.0.0.1
}
