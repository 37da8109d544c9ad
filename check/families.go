package check

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/probe"
	"postern/verdict"
)

// An open server with addresses of both families will be put on blocklists with
// both, and sends to a collector of both by the one that it prefers. The other
// is found by a domain whose mail goes to an address of that family alone.

// familyWait is the patience with the message over the other family: the same
// server has just sent one.
const familyWait = 20 * time.Second

// families plays the form that proved the port open once more, to a domain of
// the family over which nothing came.
func (p *port) families(ctx context.Context, j verdict.Judgement) verdict.Judgement {
	six, one := p.missing(j)
	if !one || p.o.OneFamily == nil {
		return j
	}
	domain := p.o.OneFamily(six)
	if domain.IsZero() {
		return j
	}
	play, ok := p.again(ctx, j.Proof.Form, six, domain)
	if !ok || p.pace.wait(ctx) != nil {
		return j
	}
	x, err := p.smtp.PlayAlone(ctx, play)
	if err != nil && !errors.Is(err, probe.ErrTurnedAway) {
		return j
	}
	p.evidence.Exchanges = append(p.evidence.Exchanges, x)
	p.progress(Waiting, "the same over the other family of addresses")
	for until := time.Now().Add(min(familyWait, p.o.Wait)); x.Outcome == verdict.Taken && !p.arrived(play.Token) && time.Now().Before(until); {
		if !came(ctx, p.inbox, time.Until(until)) {
			break
		}
	}
	p.evidence.Arrivals = p.inbox.arrivals()
	return verdict.Judge(p.evidence)
}

// missing returns the family of which no message came; ok is false where there
// is none, or no proof to play again.
func (p *port) missing(j verdict.Judgement) (six, ok bool) {
	f := j.Proof
	if f == nil || p.o.Collector == nil || !f.Form.Recipient.Uses("td") || guesses(f.Form) {
		return false, false
	}
	seen := map[bool]bool{}
	for _, a := range p.evidence.Arrivals {
		if a.Kind == verdict.Message {
			seen[a.Peer.Addr().Unmap().Is6()] = true
		}
	}
	return !seen[true], len(seen) == 1
}

// again makes the play of a form to another domain of the collector's.
func (p *port) again(ctx context.Context, f plan.Form, six bool, d mail.Domain) (probe.Play, bool) {
	tokens, err := p.o.Collector.Tokens(ctx, 1, tokenLife)
	if err != nil {
		return probe.Play{}, false
	}
	to, err := mail.NewAddress(p.recipient(tokens[0]).Local(), d)
	if err != nil {
		return probe.Play{}, false
	}
	p.watch.also(p.inbox, tokens)
	p.tokens = append(p.tokens, tokens...)
	f.ID = f.Base() + "=ipv4"
	if six {
		f.ID = f.Base() + "=ipv6"
	}
	play, missing := p.makePlay(f, tokens[0])
	if len(missing) > 0 {
		return play, false
	}
	play.Envelope, _ = f.Expand(p.facts, tokens[0], to)
	play.Message.Recipient = to
	return play, true
}

func (p *port) arrived(t plan.Token) bool {
	return slices.ContainsFunc(p.inbox.arrivals(), func(a verdict.Arrival) bool { return slices.Contains(a.Tokens, t) })
}
