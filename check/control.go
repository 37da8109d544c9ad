package check

import (
	"context"
	"strings"

	"postern/mail"
	"postern/probe"
	"postern/transcript"
	"postern/verdict"
)

// The controls tell a server that refuses strangers' mail from one that
// refuses us. Where nobody has named a domain or a mailbox of the server, its
// own name gives the guesses: RFC 5321 section 4.5.1 demands a postmaster in
// each of its domains, and one without a domain at all.

// askControls asks until a known recipient is found, then one that cannot exist.
//
// A guess counts only when the server refuses a stranger's recipient: one that
// takes everybody's mail takes that of a wrong guess too, and the forms would
// send it to whoever owns the name.
func (p *port) askControls(ctx context.Context, v *probe.Visit) {
	guessing := p.facts.Domain.IsZero() && p.facts.Local.IsZero()
	takesAll := false
	if guessing && p.usable(v) && !p.ignoresUs {
		foreign, err := v.Ask(ctx, p.controlSender(), []verdict.Asked{{Recipient: p.recipient(p.tokens[len(p.tokens)-1]).String()}})
		takesAll = err == nil && foreign[0].Reply.Positive()
	}
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
			if !takesAll {
				p.adopt(candidate)
			}
			break
		}
	}
	p.guessed = guessing && p.facts.Local.IsZero()
	if p.facts.Domain.IsZero() && !p.facts.Host.IsZero() {
		// Nothing was accepted: the parent of the host's name is the likeliest
		// domain of its own, and the forms need one.
		if p.facts.Domain = p.facts.Host.Parent(); !strings.Contains(p.facts.Domain.String(), ".") {
			p.facts.Domain = p.facts.Host
		}
	}
	if p.facts.Host.IsZero() {
		p.facts.Host = p.facts.Domain // forms that name the host then say the same as those that name the domain
	}
	if p.facts.Domain.IsZero() || !p.usable(v) {
		return
	}
	unknown := "nosuch-" + unknownLocal + "@" + p.facts.Domain.String()
	asked, _ := v.Ask(ctx, p.controlSender(), []verdict.Asked{{Control: verdict.UnknownRecipient, Recipient: unknown}})
	p.evidence.Asked = append(p.evidence.Asked, asked...)
}

// controlSender returns the sender that the forms use too, so that a server
// which refuses that sender is found out here.
func (p *port) controlSender() string {
	if !p.o.From.IsZero() {
		return p.o.From.Address().String()
	}
	return p.sender(p.tokens[len(p.tokens)-1]).String()
}

// unknownLocal is a name that no mailbox has.
const unknownLocal = "pq7x2mzk4v"

func (p *port) candidates() []string {
	var list []string
	add := func(text string) {
		for _, have := range list {
			if strings.EqualFold(have, text) {
				return
			}
		}
		list = append(list, text)
	}
	if !p.facts.Local.IsZero() {
		add(p.facts.Local.String())
	}
	for _, d := range []mail.Domain{p.facts.Domain, p.facts.Host.Parent(), p.facts.Host} {
		if !d.IsZero() && strings.Contains(d.String(), ".") {
			add("postmaster@" + d.String())
		}
	}
	add("postmaster")
	return list
}

// adopt remembers the mailbox and its domain for the forms that need them.
func (p *port) adopt(recipient string) {
	a, err := mail.ParseAddress(recipient)
	if err != nil {
		return // the bare postmaster names no domain
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
		if a.Control == verdict.KnownRecipient && asked[0].Reply.Positive() && !p.guessed {
			p.adopt(a.Recipient)
		}
	}
}
