package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// A Reason is why a recipient may pass. There are three; a fourth needs a
// decision first.
type Reason uint8

// The reasons.
const (
	Authenticated Reason = iota + 1 // an identity that may use this reverse-path
	TrustedPeer                     // a trusted client, by its address
	Inbound                         // a mailbox of a domain that is ours
)

var reasonNames = map[Reason]string{Authenticated: "authenticated", TrustedPeer: "trusted_client", Inbound: "inbound"}

// String returns the reason as logs and metrics write it.
func (r Reason) String() string { return reasonNames[r] }

// Reasons returns the three.
func Reasons() []Reason { return []Reason{Authenticated, TrustedPeer, Inbound} }

// A Client is who asks, as far as it is known.
type Client struct {
	Listener  string     `json:"listener"` // the name of the listener
	Addr      netip.Addr `json:"addr"`     // an IPv4 address in its own form, never mapped
	TLS       bool       `json:"tls"`
	Identity  string     `json:"identity,omitempty"`  // who logged in; "" for nobody
	Suspended bool       `json:"suspended,omitempty"` // trust in this address was withdrawn at run time
}

// A Destination is one address that a granted message goes to.
type Destination struct {
	To      mail.Address
	From    mail.ReversePath // instead of the message's own; zero: as given
	Foreign bool             // its domain is not ours
}

// A Grant lets one recipient of one message pass. Only Decide and Renew make
// one; the zero Grant lets nobody pass.
type Grant struct {
	reason Reason
	who    string // the identity, the trusted client, or the domain
	to     mail.ForwardPath
	goes   []Destination
	ask    bool
	alias  string
	origin problem.Pos
	policy string
	client Client
	from   mail.ReversePath
}

// IsZero reports whether g grants nothing.
func (g Grant) IsZero() bool { return g.reason == 0 }

// Reason returns why the recipient may pass.
func (g Grant) Reason() Reason { return g.reason }

// Who returns the identity, the trusted client's name or the domain.
func (g Grant) Who() string { return g.who }

// To returns the recipient as it was accepted.
func (g Grant) To() mail.ForwardPath { return g.to }

// Goes returns where the message goes: the recipient itself, or what its
// alias stands for.
func (g Grant) Goes() []Destination { return g.goes }

// Leaves returns how many foreign addresses an alias forwards a stranger's
// message to.
func (g Grant) Leaves() (n int) {
	if g.reason != Inbound {
		return 0
	}
	for _, d := range g.goes {
		if d.Foreign {
			n++
		}
	}
	return n
}

// Alias returns the alias that the recipient is, as name@domain in small
// letters and without a detail, or "".
func (g Grant) Alias() string { return g.alias }

// Ask reports that the grant holds only if the domain's next hop knows the
// mailbox; the next hop must be asked before the recipient is accepted.
func (g Grant) Ask() bool { return g.ask }

// Origin returns the line of the configuration that gave it.
func (g Grant) Origin() problem.Pos { return g.origin }

// From returns the reverse-path that it was given for.
func (g Grant) From() mail.ReversePath { return g.from }

// String returns reason and name, as logs write it.
func (g Grant) String() string {
	if g.IsZero() {
		return "none"
	}
	return g.reason.String() + " " + g.who
}

// A Record is what a queue keeps of a grant: enough to decide again, and
// nothing that lets anybody pass. Renew makes a Grant of it if the policy of
// then still gives one.
type Record struct {
	Reason   string `json:"reason"`
	Who      string `json:"who"`
	To       string `json:"to"`
	From     string `json:"from"`
	Listener string `json:"listener"`
	Addr     string `json:"addr"`
	TLS      bool   `json:"tls,omitempty"`
	Origin   string `json:"origin"`
	Policy   string `json:"policy"`
}

// Record returns what is to be kept of g.
func (g Grant) Record() Record {
	r := Record{
		Reason: g.reason.String(), Who: g.who, To: g.to.String(), From: g.from.String(),
		Listener: g.client.Listener, TLS: g.client.TLS, Origin: g.origin.String(), Policy: g.policy,
	}
	if g.client.Addr.IsValid() {
		r.Addr = g.client.Addr.String()
	}
	return r
}

// Lost says why a grant that was given once is no longer given, or "". It is
// for the operator, who finds the message held.
func (p *Policy) Lost(r Record) string {
	_, refusal, err := p.Renew(r)
	switch {
	case err != nil:
		return fmt.Sprintf("the record of its grant for %s cannot be read: %v", r.To, err)
	case refusal != nil:
		return fmt.Sprintf("its grant for %s (%s %s, %s) was withdrawn: %s", r.To, r.Reason, r.Who, r.Origin, refusal.Cause.words())
	}
	return ""
}

// words says to the operator why a grant was lost.
func (c Cause) words() string {
	switch c {
	case NoIdentity:
		return "this user is disabled, or is there no more"
	case NotYours:
		return "this user may no longer send with this sender"
	case NotTrusted:
		return "its address is no trusted client any more"
	case TrustWithdrawn:
		return "trust in this client was withdrawn"
	case NotTheClients:
		return "this client may no longer send with this sender"
	case Relaying:
		return "its domain is none of ours any more"
	case UnknownMailbox:
		return "this mailbox is there no more"
	case Unreachable:
		return "its domain can no longer be sent to"
	case NoSuchListener, Form, NeedTLS, NeedLogin, AuthorNotYours, NoPlace, InsideUs, MailOnly:
	}
	return strings.ReplaceAll(string(c), "_", " ")
}

// Notice decides whether who sent a message may be told what became of it: it
// may if it could write to itself now, by the reason and with the reverse-path
// of the grant whose record this is. So there is no way by which a notice
// reaches somebody whom no grant reaches: a stranger is never written to, and
// what was sent in a forged name does not come back to its owner (backscatter).
// Errors are those of Renew; the null reverse-path is ErrNoRecord.
func (p *Policy) Notice(r Record) (Grant, *Refusal, error) {
	r.To = r.From
	return p.Renew(r)
}

// ErrNoRecord is returned for a record that nobody can have made.
var ErrNoRecord = errors.New("no record of a grant")

// Renew decides again on what was granted once. The listener may be gone by
// now; what counts is whether the reason still holds. It returns ErrNoRecord
// for what is no record of a grant, and a Refusal when the grant is lost: the
// message is then held, not sent.
func (p *Policy) Renew(r Record) (Grant, *Refusal, error) {
	to, errTo := mail.ParseForwardPath(r.To)
	from, errFrom := mail.ParseReversePath(r.From)
	addr, errAddr := netip.Addr{}, error(nil)
	if r.Addr != "" {
		addr, errAddr = netip.ParseAddr(r.Addr)
	}
	if errTo != nil || errFrom != nil || errAddr != nil {
		return Grant{}, nil, errors.Join(ErrNoRecord, errTo, errFrom, errAddr)
	}
	c := Client{Listener: r.Listener, Addr: addr, TLS: r.TLS}
	l := &listener{name: r.Listener}
	switch r.Reason {
	case Authenticated.String():
		l.role, c.Identity = Submission, r.Who
	case TrustedPeer.String():
		l.role = Trusted
	case Inbound.String():
		l.role = MX
	default:
		return Grant{}, nil, ErrNoRecord
	}
	q := p.query(c, l, from)
	q.recipient(to)
	g, refusal := q.decide()
	return g, refusal, nil
}
