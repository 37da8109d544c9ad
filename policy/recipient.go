package policy

import (
	"errors"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// A target is what a forward-path means here.
type target struct {
	odd      bool // not a plain address
	foreign  bool // its domain is not ours
	routable bool // a foreign domain that can exist in public DNS
	known    bool // its mailbox exists, or the next hop may know it
	ask      bool
	domain   mail.Domain // ours
	goes     []Destination
	alias    string      // the alias that it is, name@domain; "": it is none
	at       problem.Pos // the line that made it so
}

// find says what a forward-path means. The local part is opaque: what others
// read as a route is never followed (RFC 5321 section 2.3.11).
func (p *Policy) find(to mail.ForwardPath) target {
	a := to.Address()
	if a.Domain().IsZero() && !a.IsZero() { // the bare <postmaster>
		return p.postmaster()
	}
	t := target{odd: to.Route() != "" || isOdd(a.Local()) || a.IsZero()}
	d := p.domains[a.Domain().ASCII()]
	if d == nil && a.Domain().Equal(p.source.Hostname) && fold(a.Local()) == "postmaster" {
		// RFC 5321 section 4.5.1; and our notices come from there, so that answers
		// to them must reach somebody.
		host := p.postmaster()
		host.odd = t.odd
		return host
	}
	if d == nil {
		t.foreign, t.goes = true, []Destination{{To: a}}
		t.routable = !a.Domain().IsLiteral() && strings.Contains(a.Domain().ASCII(), ".") && !a.Domain().Within(localOnly)
		return t
	}
	// Our own domains are handed on as all read them: what we found to be ours by
	// IDNA's mapping, the next hop may take for another's.
	found := d.find(a.Local(), a.ALabels())
	found.odd = t.odd || isPath(a.Local(), d.subaddress)
	return found
}

// postmaster is who answers for this server: of our first domain, or of the host
// itself where we have none.
func (p *Policy) postmaster() target {
	home, err := mail.NewAddress("postmaster", p.home)
	home = home.ALabels()
	if d := p.domains[p.home.ASCII()]; d != nil {
		return d.find("postmaster", home)
	}
	return target{known: err == nil, domain: p.home, goes: []Destination{{To: home}}}
}

// localOnly is kept for this machine alone (RFC 6761 section 6.3).
var localOnly = func() mail.Domain {
	d, err := mail.ParseDomain("localhost")
	if err != nil {
		panic(err) // it is a domain
	}
	return d
}()

// find says what a local part means in a domain of ours: a mailbox, an alias,
// either with a detail behind the separator, or what takes all the rest.
func (d *domain) find(local string, a mail.Address) target {
	t := target{domain: d.name, at: d.at}
	name := fold(local)
	base, _, detail := strings.Cut(name, d.subaddress)
	if d.subaddress == "" || !detail || base == "" {
		base = name
	}
	for _, each := range []string{name, base} {
		if found := d.aliases[each]; found != nil {
			t.known, t.goes, t.at, t.alias = true, found.goes, found.at, found.name
			return t
		}
		if d.mailboxes[each] {
			t.known, t.goes = true, []Destination{{To: a}}
			return t
		}
	}
	switch {
	case !d.catchAll.IsZero():
		t.known, t.goes = true, []Destination{{To: d.catchAll}}
	case d.asked:
		t.known, t.ask, t.goes = true, true, []Destination{{To: a}}
	}
	return t
}

func joined(errs []error) error { return errors.Join(errs...) }
