package policy

import (
	"net/netip"
	"slices"
	"testing"

	"postern/mail"
)

// Each rule is a lock on the door: without it the proof must find somebody who
// gets through. A rule that can be taken away unseen is no rule.
func TestEveryRuleIsNeeded(t *testing.T) {
	all := rules
	defer func() { rules = all }()
	p := compiled(t, sample())
	for i, r := range all {
		t.Run(r.name, func(t *testing.T) {
			rules = slices.Delete(slices.Clone(all), i, i+1)
			proof := p.Prove()
			rules = all
			if proof.Closed() {
				t.Errorf("without the rule %q the proof finds nothing", r.name)
				return
			}
			t.Log(proof.Counterexamples[0].Error())
		})
	}
}

// What Compile refuses the proof refuses as well, when Compile has let it pass.
func TestProofSeesWhatCompileMissed(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *Policy)
	}{
		{"everybody is trusted", func(p *Policy) { trust(p, "0.0.0.0/0") }},
		{"half of everybody is trusted", func(p *Policy) { trust(p, "0.0.0.0/1") }},
		{"everybody is trusted, in pieces", func(p *Policy) {
			for i := range 16 {
				trust(p, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i << 4), 0, 0, 0}), 4).String())
			}
		}},
		{"every IPv6 client is trusted", func(p *Policy) { trust(p, "::/0") }},
		{"the gateway is trusted", func(p *Policy) { trust(p, "10.1.2.1/32") }},
		{"the customers of a provider are trusted", func(p *Policy) { trust(p, "100.64.1.0/24") }},
		{"a foreign domain is ours", func(p *Policy) { p.domains["far.example"] = p.domains["example.org"] }},
		{"a user may send as everybody", func(p *Policy) {
			p.identities["anna"].maySendAs = []Senders{{kind: everySender}}
		}},
		{"an alias leads outside in strangers' names", func(p *Policy) {
			p.domains["example.org"].aliases["sales"].goes = []Destination{{To: must(mail.ParseAddress("a@far.example"))}}
		}},
		{"an alias leads nowhere", func(p *Policy) { p.domains["example.org"].aliases["sales"].goes = nil }},
		{"a listener changed its role", func(p *Policy) { p.listeners["mx"].role = Trusted }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sample()
			s.Domains = s.Domains[:1] // each proof is a whole one
			p := compiled(t, s)
			c.change(p)
			if proof := p.Prove(); proof.Closed() {
				t.Error("the proof finds nothing")
			}
		})
	}
}

func trust(p *Policy, prefix string) {
	n := Network{Prefix: netip.MustParsePrefix(prefix)}
	p.source.Trusted = append(slices.Clone(p.source.Trusted), TrustedClient{Name: "wide", Networks: []Network{n}})
	p.trusted = append(p.trusted, &trusted{name: "wide", networks: []Network{n}})
}
