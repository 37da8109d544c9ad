package check

import (
	"context"
	"net/netip"

	"postern/probe"
	"postern/verdict"
)

// clues looks for what tells a forwarded port from a server that sends through
// another, where the message came out elsewhere and the trace fields do not
// say that the first hop saw us. Nobody is asked but the DNS and the target.
func (p *port) clues(ctx context.Context, j verdict.Judgement) verdict.Judgement {
	proof := j.Proof
	x := p.addr.Addr().Unmap()
	if proof == nil || proof.Egress == x || proof.SeenFrom.IsValid() && proof.SeenFrom == p.evidence.From.Unmap() {
		return j
	}
	if name := p.evidence.Session.Name(); name != "" && p.o.Resolver != nil {
		p.evidence.BannerAt = p.addresses(ctx, name)
	}
	if !proof.SeenFrom.IsValid() && len(p.evidence.Session.Certificate) == 0 && p.pace.wait(ctx) == nil {
		look := probe.Forward{SMTP: p.smtp}
		if s, err := look.Look(ctx); err == nil {
			p.evidence.Session.Certificate = s.Certificate
		}
	}
	return verdict.Judge(p.evidence)
}

// maxClues is how many addresses of one name are looked at.
const maxClues = 20

func (p *port) addresses(ctx context.Context, name string) []netip.Addr {
	list, err := p.o.Resolver.Addresses(ctx, name)
	if err != nil {
		return nil
	}
	return list[:min(len(list), maxClues)]
}
