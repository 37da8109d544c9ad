package policy

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"postern/internal/problem"
	"postern/mail"
)

// A world is a configuration in the words of its test, so that the model
// beside it needs nothing of the policy's.
type world struct {
	domains map[string][]string // mailboxes by domain
	users   map[string][]string // rights by user
	trusted map[string][]string // rights by address
}

func drawWorld(t *rapid.T) (world, Source) {
	w := world{map[string][]string{}, map[string][]string{}, map[string][]string{}}
	s := Source{Hash: "rapid", Hostname: must(mail.ParseDomain("mx.ours.example"))}
	for i, r := range Roles() {
		s.Listeners = append(s.Listeners, Listener{Name: fmt.Sprint("l", i), Role: r})
	}
	names := []string{"a.example", "b.example", "sub.a.example", "c.example"}
	for _, d := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID).Draw(t, "domains") {
		boxes := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"anna", "ben", "Carl"}), 0, 3, rapid.ID).Draw(t, "mailboxes")
		w.domains[d] = boxes
		s.Domains = append(s.Domains, Domain{Name: must(mail.ParseDomain(d)), Mailboxes: boxes})
	}
	rights := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"anna@a.example", "*@b.example", "*", "<>", "x@far.example"}), 0, 3, rapid.ID)
	for _, u := range []string{"anna", "ben"} {
		words := rights.Draw(t, "rights")
		w.users[u] = words
		s.Users = append(s.Users, User{Name: u, MaySendAs: parsed(words)})
	}
	for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.1.2.40", "192.0.2.9", "2001:db8::9"}), 0, 3, rapid.ID).Draw(t, "trusted") {
		words := rights.Draw(t, "client's rights")
		w.trusted[a] = words
		addr := netip.MustParseAddr(a)
		s.Trusted = append(s.Trusted, TrustedClient{Name: a, MaySendAs: parsed(words), Networks: []Network{{Prefix: netip.PrefixFrom(addr, addr.BitLen())}}})
	}
	return w, s
}

func parsed(words []string) []Senders {
	var list []Senders
	for _, w := range words {
		list = append(list, must(ParseSenders(w)))
	}
	return list
}

// ours reports whether the model knows the mailbox.
func (w world) ours(local, domain string) (served, exists bool) {
	boxes, served := w.domains[domain]
	for _, b := range boxes {
		exists = exists || strings.EqualFold(b, local)
	}
	return served, served && (exists || strings.EqualFold(local, "postmaster"))
}

func maySend(rights []string, sender string) bool {
	for _, r := range rights {
		if r == sender || sender != "<>" && (r == "*" || r == strings.Trim(sender, "<>") || strings.HasPrefix(r, "*@") && strings.HasSuffix(strings.Trim(sender, "<>"), r[1:])) {
			return true
		}
	}
	return false
}

// checks is how many sessions the model is asked about; the nightly run asks more.
func checks(t *testing.T) {
	n := "5000"
	if set := os.Getenv("POSTERN_RAPID"); set != "" {
		if _, err := strconv.Atoi(set); err != nil {
			t.Fatalf("POSTERN_RAPID=%q is no number", set)
		}
		n = set
	}
	if err := flag.Set("rapid.checks", n); err != nil {
		t.Fatal(err)
	}
}

func TestPolicyAgreesWithTheModel(t *testing.T) {
	checks(t)
	rapid.Check(t, func(t *rapid.T) {
		w, s := drawWorld(t)
		p, err := Compile(s)
		if fatal, _ := problem.Split(err); fatal != nil {
			t.Fatal(fatal)
		}
		for range 8 {
			role := rapid.IntRange(0, 3).Draw(t, "listener")
			addr := rapid.SampledFrom([]string{"10.1.2.40", "10.1.2.41", "192.0.2.9", "::ffff:192.0.2.9", "198.51.100.7", "2001:db8::9", "2001:db8::a", "127.0.0.1"}).Draw(t, "client")
			who := rapid.SampledFrom([]string{"", "", "anna", "ben", "nobody"}).Draw(t, "identity")
			tls := rapid.Bool().Draw(t, "tls")
			sender := rapid.SampledFrom([]string{"<>", "<anna@a.example>", "<z@b.example>", "<x@far.example>", "<y@elsewhere.example>"}).Draw(t, "sender")
			local := rapid.SampledFrom([]string{"anna", "BEN", "carl", "postmaster", "nobody", "anna%far.example"}).Draw(t, "local")
			domain := rapid.SampledFrom([]string{"a.example", "b.example", "sub.a.example", "c.example", "far.example", "evila.example", "a.example.far.example"}).Draw(t, "domain")

			g, refusal := p.Decide(Client{Listener: fmt.Sprint("l", role), Addr: netip.MustParseAddr(addr), TLS: tls, Identity: who},
				must(mail.ParseReversePath(sender)), must(mail.ParseForwardPath("<"+local+"@"+domain+">")))

			served, exists := w.ours(local, domain)
			odd := strings.Contains(local, "%")
			var may bool
			switch Roles()[role] {
			case MX:
				may = exists && !odd
			case Submission, Submissions:
				rights, known := w.users[who]
				may = tls && known && maySend(rights, sender) && !odd && (exists || !served)
			case Trusted:
				rights, known := w.trusted[strings.TrimPrefix(addr, "::ffff:")]
				may = known && maySend(rights, sender) && !odd && (exists || !served)
			}
			if got := !g.IsZero(); got != may || got != (refusal == nil) {
				t.Fatalf("role %s from %s (tls %v, %q) %s to %s@%s: granted %v, the model says %v (%v)", Roles()[role], addr, tls, who, sender, local, domain, got, may, refusal)
			}
		}
	})
}
