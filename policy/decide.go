package policy

import (
	"net/netip"
	"slices"

	"postern/internal/problem"
	"postern/mail"
)

// Decide answers one RCPT: a Grant, or why not. It is a pure function of its
// arguments and of the policy.
func (p *Policy) Decide(c Client, from mail.ReversePath, to mail.ForwardPath) (Grant, *Refusal) {
	q := p.query(c, p.listeners[c.Listener], from)
	q.recipient(to)
	return q.decide()
}

// Sender answers MAIL: why this client may not send with this reverse-path to
// anybody at all, or nil. Nil grants nothing.
func (p *Policy) Sender(c Client, from mail.ReversePath) *Refusal {
	return p.query(c, p.listeners[c.Listener], from).ask(atMail)
}

// Author says why the sender may not write this address into From, Sender or
// their Resent twins (RFC 6409 section 6.1), or nil. Only what is sent by our
// own people is held to it: strangers' authors are DMARC's affair.
func (p *Policy) Author(c Client, author mail.Address) *Refusal {
	l := p.listeners[c.Listener]
	if l == nil || l.role == MX {
		return nil
	}
	q := p.query(c, l, mail.NullPath())
	list, who, at := q.owned()
	if slices.ContainsFunc(list, func(s Senders) bool { return s.permitsAddress(author) }) {
		return nil
	}
	return refuse(AuthorNotYours, at, shown(author.String()), named(who))
}

// A query is one question to the policy, with all that is found for it.
type query struct {
	p        *Policy
	client   Client
	listener *listener // nil: there is none of that name any more
	from     mail.ReversePath
	to       mail.ForwardPath

	identity *identity // of who logged in, nil when gone
	trusted  *trusted  // whom the address belongs to
	network  Network
	target   target
}

func (p *Policy) query(c Client, l *listener, from mail.ReversePath) *query {
	c.Addr = c.Addr.Unmap()
	q := &query{p: p, client: c, listener: l, from: from}
	if c.Identity != "" {
		q.identity = p.identities[fold(c.Identity)]
	}
	if l != nil && l.role == Trusted {
		q.trusted, q.network = p.trustedBy(c.Addr)
	}
	return q
}

func (q *query) recipient(to mail.ForwardPath) {
	q.to, q.target = to, q.p.find(to)
}

// role is that of the listener; with none, no role fits.
func (q *query) role() Role {
	if q.listener == nil {
		return 0
	}
	return q.listener.role
}

// login reports a listener for those who log in.
func (q *query) login() bool { return q.role() == Submission || q.role() == Submissions }

// owned returns what the identity or the trusted client may send as.
func (q *query) owned() (list []Senders, who string, at problem.Pos) {
	switch {
	case q.login() && q.identity != nil:
		return q.identity.maySendAs, q.identity.name, q.identity.at
	case q.role() == Trusted && q.trusted != nil:
		return q.trusted.maySendAs, q.trusted.name, q.trusted.at
	}
	return nil, q.client.Identity, problem.Pos{}
}

// decide asks all rules, and only when none refuses makes the grant.
func (q *query) decide() (Grant, *Refusal) {
	if refusal := q.ask(atRcpt); refusal != nil {
		return Grant{}, refusal
	}
	return q.grant(), nil
}

// ask returns the first refusal of the rules up to a stage.
func (q *query) ask(last stage) *Refusal {
	for i := range rules {
		if rules[i].stage > last {
			break
		}
		if refusal := rules[i].refuses(q); refusal != nil {
			refusal.Rule = rules[i].name
			return refusal
		}
	}
	return nil
}

// grant makes the one Grant that the role can give.
func (q *query) grant() Grant {
	g := Grant{to: q.to, goes: q.goes(), ask: q.target.ask, alias: q.target.alias, policy: q.p.source.Hash, client: q.client, from: q.from}
	switch q.role() {
	case Submission, Submissions:
		g.reason, g.who = Authenticated, q.client.Identity
		if q.identity != nil {
			g.origin = q.identity.at
		}
		if s, ok := permitted(q.senders(), q.from); ok {
			g.origin = place(s.At, g.origin)
		}
	case Trusted:
		g.reason, g.origin = TrustedPeer, q.network.At
		if q.trusted != nil {
			g.who = q.trusted.name
		}
	case MX:
		g.reason, g.who, g.origin = Inbound, q.target.domain.String(), q.target.at
	}
	return g
}

// goes returns where the message goes and in whose name. What came from the
// null reverse-path, a notice, is forwarded from the null reverse-path: nobody
// may be told of its end (RFC 5321 section 4.5.5, RFC 3834 section 2).
func (q *query) goes() []Destination {
	if !q.from.Null() {
		return q.target.goes
	}
	list := slices.Clone(q.target.goes)
	for i := range list {
		list[i].From = mail.ReversePath{}
	}
	return list
}

func (q *query) senders() []Senders {
	list, _, _ := q.owned()
	return list
}

// Knows reports whether an identity has a place in the policy. It grants nothing.
func (p *Policy) Knows(identity string) bool { return p.identities[fold(identity)] != nil }

// TrustedBy returns the name of the trusted client that an address belongs
// to, or "". It grants nothing.
func (p *Policy) TrustedBy(a netip.Addr) string {
	if t, _ := p.trustedBy(a.Unmap()); t != nil {
		return t.name
	}
	return ""
}

// Unknown is the refusal of a mailbox that the next hop does not know.
func (p *Policy) Unknown(to mail.ForwardPath) *Refusal {
	r := refuse(UnknownMailbox, p.find(to).at, shown(to.Address().String()))
	r.Rule = "mailbox"
	return r
}

// Alias returns the alias that a forward-path is, as name@domain in small
// letters and without a detail, or "". It grants nothing.
func (p *Policy) Alias(to mail.ForwardPath) string { return p.find(to).alias }

// Ours reports whether mail for a domain stays here: it is one of the
// domains, or the name of this host.
func (p *Policy) Ours(d mail.Domain) bool {
	return p.domains[d.ASCII()] != nil || d.Equal(p.source.Hostname)
}
