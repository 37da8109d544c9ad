package check

import (
	"context"
	"slices"
	"strings"

	"postern/mail"
	"postern/plan"
	"postern/probe"
	"postern/transcript"
	"postern/verdict"
)

// The controls tell a server that refuses strangers' mail from one that
// refuses us. Where nobody has named a domain or a mailbox of the server, its
// own names give the guesses: RFC 5321 section 4.5.1 demands a postmaster in
// each of its domains, and one without a domain at all.

// askControls asks until a known recipient is found, then one that cannot exist.
//
// A guess counts only when the server refuses a stranger's recipient: one that
// takes everybody's mail takes that of a wrong guess too, and the forms would
// send it to whoever owns the name.
func (p *port) askControls(ctx context.Context, v *probe.Visit) {
	guessing := p.facts.Domain.IsZero() && p.facts.Local.IsZero()
	p.refuses = (guessing || p.names.guessed()) && p.refusesStranger(ctx, v)
	for _, candidate := range p.candidates() {
		if !p.usable(v) {
			break
		}
		asked, err := v.Ask(ctx, p.controlSender(), []verdict.Asked{{Control: verdict.KnownRecipient, Recipient: candidate}})
		p.evidence.Asked = append(p.evidence.Asked, asked...)
		if err != nil || len(asked) > 0 && (asked[0].AtMail || asked[0].Reply.Code == 530) {
			break // no other candidate could fare better
		}
		if asked[0].Reply.Positive() {
			if !guessing || p.mayAdopt(candidate) {
				p.adopt(candidate)
			}
			break
		}
		if verdict.MeaningOf(asked[0].Reply) == verdict.UnknownUser && p.facts.Domain.IsZero() {
			p.facts.Domain = domainOf(candidate) // it serves the domain, and has no postmaster there
		}
	}
	p.settleNames()
	if p.facts.Domain.IsZero() || !p.usable(v) {
		return
	}
	asked, _ := v.Ask(ctx, p.controlSender(), []verdict.Asked{unknownAt("@" + p.facts.Domain.String())})
	p.evidence.Asked = append(p.evidence.Asked, asked...)
}

// refusesStranger reports whether the server refuses a recipient of ours for
// good, as strangers' forms are: only then is what it accepts its own.
func (p *port) refusesStranger(ctx context.Context, v *probe.Visit) bool {
	if !p.usable(v) || p.ignoresUs {
		return false
	}
	asked, err := v.Ask(ctx, p.controlSender(), []verdict.Asked{{Recipient: p.recipient(p.tokens[len(p.tokens)-1]).String()}})
	return err == nil && (asked[0].Reply.Permanent() || verdict.MeaningOf(asked[0].Reply) == verdict.DeniesRelay) && !notOfStrangers(asked[0].Reply)
}

// notOfStrangers reports whether a refusal would not be given to every
// stranger's recipient: it is about the recipient's domain, our address or
// what stood in the message. Such a server may relay to another domain.
func notOfStrangers(r mail.Reply) bool {
	means := verdict.MeaningOf(r)
	return means == verdict.UnknownHost || means == verdict.BlocksUs || means == verdict.BadContent ||
		strings.Contains(strings.ToLower(r.Text()), "unrout") // Exim's word for a domain that it cannot find
}

// settleNames chooses a domain and a host for the forms that need one, where
// none was found: mail that the DNS leads here is the server's, and the parent
// of the host's name is the likeliest guess.
func (p *port) settleNames() {
	if p.facts.Domain.IsZero() && len(p.names.domains) > 0 {
		p.facts.Domain = p.names.domains[0]
	}
	if p.facts.Domain.IsZero() && !p.facts.Host.IsZero() {
		if p.facts.Domain = p.facts.Host.Parent(); !strings.Contains(p.facts.Domain.String(), ".") {
			p.facts.Domain = p.facts.Host
		}
	}
	if p.facts.Host.IsZero() {
		p.facts.Host = p.facts.Domain // forms that name the host then say the same as those that name the domain
	}
}

// controlSender returns the sender that the forms use too, so that a server
// which refuses that sender is found out here.
func (p *port) controlSender() string {
	if !p.o.From.IsZero() {
		return p.o.From.Address().String()
	}
	return p.sender(p.tokens[len(p.tokens)-1]).String()
}

// unknownAt returns the control for a recipient whose local part no mailbox
// has; at is its domain with the at sign before it, or "".
func unknownAt(at string) verdict.Asked {
	return verdict.Asked{Control: verdict.UnknownRecipient, Recipient: "nosuch-pq7x2mzk4v" + at}
}

// maxCandidates is how many recipients are asked about before the last, the
// postmaster without a domain: some servers hang up at the tenth refusal.
const maxCandidates = 7

// candidates returns the recipients that the server may know: the mailbox that
// was named, the postmasters of the domain that was named and of those that are
// led here, then those of every name, and the one without a domain.
func (p *port) candidates() []string {
	var list []string
	add := func(text string) {
		if !slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, text) }) {
			list = append(list, text)
		}
	}
	if !p.facts.Local.IsZero() {
		add(p.facts.Local.String())
	}
	domains := append([]mail.Domain{p.facts.Domain}, p.names.domains...)
	for _, host := range append([]mail.Domain{p.facts.Host}, p.names.hosts...) {
		domains = append(domains, host.Parent(), host)
	}
	for _, d := range domains {
		if !d.IsZero() && strings.Contains(d.String(), ".") && len(list) < maxCandidates {
			add("postmaster@" + d.String())
		}
	}
	add("postmaster")
	return list
}

func domainOf(recipient string) mail.Domain {
	a, err := mail.ParseAddress(recipient)
	if err != nil {
		return mail.Domain{} // the postmaster without a domain
	}
	return a.Domain()
}

// mayAdopt reports whether a recipient that was taken is the server's own.
func (p *port) mayAdopt(recipient string) bool {
	return p.refuses || p.names.itsOwn(domainOf(recipient))
}

// adopt remembers the mailbox and its domain for the forms that need them.
func (p *port) adopt(recipient string) {
	a, err := mail.ParseAddress(recipient)
	if err != nil {
		return // the postmaster without a domain
	}
	if p.facts.Local.IsZero() {
		p.facts.Local = a
	}
	if p.facts.Domain.IsZero() {
		p.facts.Domain = a.Domain()
	}
}

// controlPutOff reports whether no known recipient was accepted and one was
// put off.
func (p *port) controlPutOff() bool {
	off := false
	for _, a := range p.evidence.Asked {
		if a.Control != verdict.KnownRecipient {
			continue
		}
		if a.Reply.Positive() && strings.Contains(a.Recipient, "@") {
			return false // and it tells a domain, which the bare postmaster does not
		}
		off = off || a.Reply.Transient()
	}
	return off
}

// askAgain repeats the known recipients with the same envelope.
func (p *port) askAgain(ctx context.Context) {
	if err := p.pace.wait(ctx); err != nil {
		return
	}
	v, err := p.smtp.Open(ctx, &transcript.Transcript{})
	if err != nil {
		return
	}
	defer v.Close()
	if !p.usable(v) {
		return
	}
	for i, a := range p.evidence.Asked {
		asked, err := v.Ask(ctx, p.controlSender(), []verdict.Asked{a})
		if err != nil || len(asked) == 0 {
			return
		}
		p.evidence.Asked[i] = asked[0]
		if a.Control == verdict.KnownRecipient && asked[0].Reply.Positive() && p.mayAdopt(a.Recipient) {
			p.adopt(a.Recipient)
		}
	}
}

// askUnknown asks, where the server takes mail for unknown recipients of its
// domain, whether it does so of every name in which a form that it took ends:
// only there does a catch-all explain why it did.
func (p *port) askUnknown(ctx context.Context, played []verdict.Exchange) {
	var controls []verdict.Asked
	for _, x := range played {
		if x.Outcome != verdict.Taken || x.Form.Set == plan.Owner {
			continue
		}
		if x.Form.Realm() != plan.Home {
			return // no catch-all of its own domain explains that
		}
		c := unknownAt(atDomain(x.Envelope.Recipient))
		known := func(a verdict.Asked) bool { return strings.EqualFold(a.Recipient, c.Recipient) }
		if !slices.ContainsFunc(p.evidence.Asked, known) && !slices.ContainsFunc(controls, known) {
			controls = append(controls, c)
		}
	}
	taken := func(a verdict.Asked) bool { return a.Control == verdict.UnknownRecipient && a.Reply.Positive() }
	if len(controls) == 0 || !slices.ContainsFunc(p.evidence.Asked, taken) || p.pace.wait(ctx) != nil {
		return
	}
	v, err := p.smtp.Open(ctx, &transcript.Transcript{})
	if err != nil {
		return
	}
	defer v.Close()
	if p.usable(v) {
		asked, _ := v.Ask(ctx, p.controlSender(), controls)
		p.evidence.Asked = append(p.evidence.Asked, asked...)
	}
}

// atDomain returns the end of a recipient from its last at sign on, "" of one
// that has no domain outside of quotes.
func atDomain(recipient string) string {
	if i := strings.LastIndexByte(recipient, '@'); i >= 0 && !strings.HasSuffix(recipient, `"`) {
		return recipient[i:]
	}
	return ""
}
