package policy

import (
	"net/netip"
	"testing"

	"postern/internal/problem"
	"postern/mail"
)

// sample is a small configuration with one of each thing that the rules know.
func sample() Source {
	senders := func(words ...string) []Senders {
		var list []Senders
		for _, w := range words {
			list = append(list, must(ParseSenders(w)))
		}
		return list
	}
	at := func(line int) problem.Pos { return problem.Pos{File: "postern.hcl", Line: line, Column: 1} }
	return Source{
		Hash: "test", Hostname: must(mail.ParseDomain("mx.example.org")),
		Listeners: []Listener{
			{Name: "mx", Role: MX, At: at(1)},
			{Name: "submission", Role: Submission, At: at(2)},
			{Name: "submissions", Role: Submissions, At: at(3)},
			{Name: "trusted", Role: Trusted, At: at(4)},
		},
		Domains: []Domain{
			{Name: must(mail.ParseDomain("example.org")), Mailboxes: []string{"anna", "ben"}, Subaddress: "+", At: at(5), Aliases: []Alias{
				{Name: "sales", To: []mail.Address{must(mail.ParseAddress("anna@example.org")), must(mail.ParseAddress("ben@example.org"))}, At: at(6)},
				{Name: "away", To: []mail.Address{must(mail.ParseAddress("anna@far.example.net"))}, Sender: mail.ReverseTo(must(mail.ParseAddress("owner-away@example.org"))), At: at(7)},
			}},
			{Name: must(mail.ParseDomain("asked.example.org")), Asked: true, At: at(8)},
			{Name: must(mail.ParseDomain("all.example.org")), CatchAll: must(mail.ParseAddress("anna@example.org")), At: at(9)},
		},
		Users: []User{{Name: "anna", MaySendAs: senders("anna@example.org", "sales@example.org"), At: at(10)}, {Name: "root", MaySendAs: senders("*"), At: at(11)}},
		Trusted: []TrustedClient{{
			Name: "scanner", Networks: []Network{{netip.MustParsePrefix("10.1.2.40/32"), at(12)}},
			MaySendAs: senders("scanner@example.org", "<>"), At: at(12),
		}},
		Around: Surroundings{Gateways: []netip.Addr{netip.MustParseAddr("10.1.2.1")}},
	}
}

func compiled(t *testing.T, s Source) *Policy {
	t.Helper()
	p, err := Compile(s)
	if fatal, _ := problem.Split(err); fatal != nil {
		t.Fatal(fatal)
	}
	return p
}

func TestSampleIsProvedClosed(t *testing.T) {
	p := compiled(t, sample())
	proof := p.Prove()
	for _, c := range proof.Counterexamples {
		t.Error(c.Error())
	}
	t.Log(proof.Summary())
}

func BenchmarkProve(b *testing.B) {
	p, _ := Compile(sample())
	for b.Loop() {
		p.Prove()
	}
}

func BenchmarkRefuse(b *testing.B) {
	p, _ := Compile(sample())
	from, to := must(mail.ParseReversePath("<a@far.example>")), must(mail.ParseForwardPath("<b@elsewhere.example>"))
	for b.Loop() {
		if _, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, from, to); refusal == nil {
			b.Fatal("granted")
		}
	}
}
