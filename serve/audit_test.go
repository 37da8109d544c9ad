package serve

import (
	"net/netip"
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
			{Name: "mx", Role: policy.MX, At: at(1)}, {Name: "submission", Role: policy.Submission, At: at(2)},
			{Name: "submissions", Role: policy.Submissions, At: at(3)}, {Name: "trusted", Role: policy.Trusted, At: at(4)},
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
	g, err := prove(s, nil, policy.Surroundings{})
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
