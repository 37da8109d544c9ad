package policy

import (
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// Senders is one entry of a list of permitted reverse-paths.
type Senders struct {
	kind    senderKind
	address mail.Address // of one
	domain  mail.Domain  // of oneDomain
	At      problem.Pos
}

type senderKind uint8

const (
	none senderKind = iota
	one
	oneDomain
	everySender
	nullSender
)

// ParseSenders reads "name@domain", "*@domain", "*" or "<>".
func ParseSenders(s string) (Senders, error) {
	switch {
	case s == "*":
		return Senders{kind: everySender}, nil
	case s == "<>":
		return Senders{kind: nullSender}, nil
	case strings.HasPrefix(s, "*@"):
		d, err := mail.ParseDomain(s[2:])
		return Senders{kind: oneDomain, domain: d}, err
	}
	a, err := mail.ParseAddress(s)
	return Senders{kind: one, address: a}, err
}

// String returns the entry as it is written.
func (s Senders) String() string {
	switch s.kind {
	case one:
		return s.address.String()
	case oneDomain:
		return "*@" + s.domain.String()
	case everySender:
		return "*"
	case nullSender:
		return "<>"
	case none:
	}
	return ""
}

// Everybody reports whether the entry permits every address.
func (s Senders) Everybody() bool { return s.kind == everySender }

// permits reports whether the entry lets p be the reverse-path. The null path
// has to be named: whoever may send as everybody still sends no bounces.
func (s Senders) permits(p mail.ReversePath) bool {
	if p.Null() {
		return s.kind == nullSender
	}
	return !p.IsZero() && s.permitsAddress(p.Address())
}

func (s Senders) permitsAddress(a mail.Address) bool {
	switch s.kind {
	case one:
		return fold(s.address.Local()) == fold(a.Local()) && s.address.Domain().Equal(a.Domain())
	case oneDomain:
		return s.domain.Equal(a.Domain())
	case everySender:
		return true
	case none, nullSender:
	}
	return false
}

// fold makes local parts of our own comparable: no system of ours has two
// mailboxes that differ in case alone.
func fold(local string) string { return strings.ToLower(local) }

func permitted(list []Senders, p mail.ReversePath) (Senders, bool) {
	for _, s := range list {
		if s.permits(p) {
			return s, true
		}
	}
	return Senders{}, false
}
