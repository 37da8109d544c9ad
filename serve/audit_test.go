package serve

import (
	"net/netip"
	"strings"
	"testing"

	"postern/guard"
	"postern/internal/problem"
	"postern/internal/state"
	"postern/mail"
	"postern/policy"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ordinary is the configuration of a small organisation.
func ordinary() Settings {
	at := func(n int) problem.Pos { return problem.Pos{File: "postern.hcl", Line: n, Column: 1} }
	s := Settings{Guard: guard.DefaultLimits, Policy: policy.Source{
		Hash: "test", Hostname: must(mail.ParseDomain("mx.example.org")),
		Listeners: []policy.Listener{
			{Name: "mx", Role: policy.MX, At: at(1)},
			{Name: "submission", Role: policy.Submission, At: at(2)},
			{Name: "submissions", Role: policy.Submissions, At: at(3)},
			{Name: "trusted", Role: policy.Trusted, At: at(4)},
		},
		Domains: []policy.Domain{{Name: must(mail.ParseDomain("example.org")), Mailboxes: []string{"anna"}, At: at(5)}},
		Users:   []policy.User{{Name: "anna", MaySendAs: []policy.Senders{must(policy.ParseSenders("anna@example.org"))}, At: at(6)}},
		Trusted: []policy.TrustedClient{{
			Name: "scanner", Networks: []policy.Network{{Prefix: netip.MustParsePrefix("10.1.2.40/32"), At: at(7)}},
			MaySendAs: []policy.Senders{must(policy.ParseSenders("scanner@example.org"))}, At: at(7),
		}},
	}}
	for _, l := range s.Policy.Listeners {
		s.Listeners = append(s.Listeners, Listener{Name: l.Name, Role: l.Role, At: l.At})
	}
	return s
}

func proved(t testing.TB, s Settings) *generation {
	t.Helper()
	g, err := prove(s, s.Policy.Users, policy.Surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	from := must(selfSigned(&state.Folder{Path: t.TempDir()}, "mx.example.org"))
	g.tls = must(loadCertificates(from, nil))
	return g
}

func TestSelfAuditOfAnOrdinaryConfiguration(t *testing.T) {
	g := proved(t, ordinary())
	a, err := g.audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *a)
	if !a.Closed() || a.Played == 0 {
		t.Errorf("audit = %+v", a)
	}
}

// The audit must see an open door when there is one: a client that is trusted
// without a limit on what it sends as, taken for a stranger.
func TestSelfAuditSeesAnOpenDoor(t *testing.T) {
	s := ordinary()
	s.Policy.Trusted[0].MaySendAs = []policy.Senders{must(policy.ParseSenders("*")), must(policy.ParseSenders("<>"))}
	g := proved(t, s)
	a, err := g.auditFrom(t.Context(), s.Listeners[3], caller{addr: netip.MustParseAddr("10.1.2.40")})
	if err != nil {
		t.Fatal(err)
	}
	if a.Closed() || a.Taken == 0 {
		t.Fatalf("audit = %+v", a)
	}
	if got := a.Breaches[0].Error(); !strings.HasPrefix(got, "postern.hcl:7:1: self-audit: a stranger at 10.1.2.40 sent mail to ") {
		t.Errorf("the breach says %q", got)
	}
	for _, l := range s.Listeners[:3] { // and the same client is nobody elsewhere
		if a, err := g.auditFrom(t.Context(), l, caller{addr: netip.MustParseAddr("10.1.2.40")}); err != nil || !a.Closed() {
			t.Errorf("listener %s: %+v, %v", l.Name, a, err)
		}
	}
}

// Behind a balancer nobody but the balancer is served, and a header cannot
// claim to be one of us.
func TestSelfAuditBehindAProxy(t *testing.T) {
	t.Parallel()
	s := ordinary()
	s.Listeners[0].Proxy = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")}
	s.Policy.Listeners[0].ProxyFrom = []policy.Network{{Prefix: s.Listeners[0].Proxy[0]}}
	g := must(prove(s, s.Policy.Users, policy.Surroundings{Own: []netip.Addr{netip.MustParseAddr("203.0.113.1")}}))
	g.tls = proved(t, ordinary()).tls
	a, err := g.audit(t.Context())
	if err != nil || !a.Closed() {
		t.Errorf("audit = %+v, %v", a, err)
	}
	for _, balancer := range []string{"192.0.2.2", "::ffff:192.0.2.2"} { // each form came behind its header
		if one, err := g.auditFrom(t.Context(), s.Listeners[0], caller{addr: netip.MustParseAddr(balancer)}); err != nil || one.Played < 80 {
			t.Errorf("from the balancer %s: %+v, %v", balancer, one, err)
		}
	}
	for _, c := range s.Listeners[0].callers([]netip.Addr{
		netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("10.1.2.40"), // the scanner, who is nobody here
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("203.0.113.1"),
	}) {
		if c.says == nil {
			continue
		}
		one, err := g.auditFrom(t.Context(), s.Listeners[0], c)
		client := c.named.IsValid() && !c.named.Unmap().IsLoopback() && c.named.String() != "203.0.113.1" // which is this machine
		if err != nil || !one.Closed() || client != (one.Played >= 80) || !client && one.Played > 0 {
			t.Errorf("behind %q: %d forms were played, breaches %v, %v", c.says, one.Played, one.Breaches, err)
		}
	}
	one, err := g.auditFrom(t.Context(), s.Listeners[0], caller{addr: netip.MustParseAddr("198.51.100.7")})
	if err != nil || one.Played != 0 {
		t.Errorf("a stranger who connects directly was answered: %+v, %v", one, err)
	}
}

// The audit must see a header that makes its client trusted: a listener that
// the policy does not know to be behind a balancer.
func TestSelfAuditSeesATrustedHeader(t *testing.T) {
	s := ordinary()
	s.Policy.Trusted[0].MaySendAs = []policy.Senders{must(policy.ParseSenders("*"))}
	g := proved(t, s)
	l := s.Listeners[3]
	l.Proxy = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")}
	scanner := netip.MustParseAddr("10.1.2.40")
	for _, says := range [][]byte{headerV1(scanner), headerV2(scanner)} {
		a, err := g.auditFrom(t.Context(), l, caller{l.Proxy[0].Addr(), scanner, says})
		if err != nil || a.Closed() || a.Breaches[0].From != scanner {
			t.Errorf("behind %q: %+v, %v", says, a, err)
		}
	}
}

// A user of the configuration and one of the store are one, whatever the case.
func TestUsersAreMergedByName(t *testing.T) {
	all := merge([]policy.User{{Name: "Anna"}}, []policy.User{{Name: "anna"}, {Name: "ben"}})
	if len(all) != 2 || all[0].Name != "Anna" || all[1].Name != "ben" {
		t.Errorf("merged: %+v", all)
	}
}
