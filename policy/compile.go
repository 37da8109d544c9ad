package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// A Policy is a Source that was found consistent. It never changes, and is
// safe for concurrent use.
type Policy struct {
	source     Source
	listeners  map[string]*listener
	domains    map[string]*domain // by A-label
	identities map[string]*identity
	trusted    []*trusted
	gateways   map[string]*Gateway
	home       mail.Domain // where mail for the bare <postmaster> goes
}

type listener struct {
	name string
	role Role
	at   problem.Pos
}

type domain struct {
	name       mail.Domain
	mailboxes  map[string]bool
	aliases    map[string]*alias
	asked      bool
	catchAll   mail.Address
	subaddress string
	at         problem.Pos
}

type alias struct {
	name string // name@domain
	goes []Destination
	at   problem.Pos
}

type identity struct {
	name      string
	maySendAs []Senders
	mailOnly  bool
	at        problem.Pos
}

type trusted struct {
	name      string
	networks  []Network
	maySendAs []Senders
	at        problem.Pos
}

// Compile makes a Policy of s. The error joins every problem of it, warnings
// among them (problem.Split parts them); the policy is nil when one of them is
// no warning.
func Compile(s Source) (*Policy, error) {
	p := &Policy{
		source: s, listeners: map[string]*listener{}, domains: map[string]*domain{}, identities: map[string]*identity{},
		gateways: map[string]*Gateway{}, home: s.Hostname,
	}
	b := &compiler{p: p}
	if s.Hostname.IsZero() || s.Hostname.IsLiteral() {
		b.stop(problem.Pos{}, "hostname is missing", `write hostname = "mx.example.org"`)
	}
	b.listeners(s)
	b.domains(s)
	b.users(s)
	b.trusted(s)
	b.gateways(s)
	err := errors.Join(b.problems...)
	if fatal, _ := problem.Split(err); fatal != nil {
		return nil, err
	}
	return p, err
}

// Hash names the state of the configuration that p was compiled from.
func (p *Policy) Hash() string { return p.source.Hash }

// Source returns what p was compiled from; it must not be changed.
func (p *Policy) Source() Source { return p.source }

type compiler struct {
	p        *Policy
	problems []error
}

func (b *compiler) stop(at problem.Pos, what, do string) {
	b.problems = append(b.problems, problem.At(at, what, do))
}

func (b *compiler) warn(at problem.Pos, what, do string) {
	b.problems = append(b.problems, problem.Warn(at, what, do))
}

func (b *compiler) listeners(s Source) {
	for _, l := range s.Listeners {
		if l.Role.String() == "" {
			b.stop(l.At, fmt.Sprintf("listener %q has no role", l.Name), `write role = "mx", "submission", "submissions" or "trusted"`)
			continue
		}
		if _, twice := b.p.listeners[l.Name]; twice {
			b.stop(l.At, fmt.Sprintf("listener %q stands twice", l.Name), "give one of them another name")
		}
		b.p.listeners[l.Name] = &listener{name: l.Name, role: l.Role, at: l.At}
		if l.Role == Trusted && len(l.ProxyFrom) > 0 {
			b.stop(l.At, fmt.Sprintf("listener %q trusts clients by their address and takes that address from a PROXY header", l.Name),
				"let trusted clients connect directly: a listener of their own, without proxy_from")
		}
		for _, n := range l.ProxyFrom {
			b.width(n, "proxy_from", nil)
		}
	}
}

func (b *compiler) domains(s Source) {
	for _, d := range s.Domains {
		key := d.Name.ASCII()
		switch {
		case d.Name.IsZero() || d.Name.IsLiteral():
			b.stop(d.At, "a domain needs a name", `write domain "example.org" { ... }`)
			continue
		case d.Name.Parent().IsZero() && key != "localhost":
			b.stop(d.At, fmt.Sprintf("domain %q is a top-level name: all below it would be ours", d.Name), "name the domain itself, as example.org")
			continue
		case b.p.domains[key] != nil:
			b.stop(d.At, fmt.Sprintf("domain %q stands twice, first in %s", d.Name, b.p.domains[key].at), "join the two")
			continue
		}
		c := &domain{
			name: d.Name, mailboxes: map[string]bool{"postmaster": true}, aliases: map[string]*alias{},
			asked: d.Asked, catchAll: d.CatchAll.ALabels(), subaddress: d.Subaddress, at: d.At,
		}
		for _, m := range d.Mailboxes {
			if isOdd(m) {
				b.stop(d.At, fmt.Sprintf("mailbox %q of %s: other servers read such a name as a route", m, d.Name), "rename it; % ! @ : and quotes do not belong in a mailbox")
				continue
			}
			if isPath(m, d.Subaddress) {
				b.stop(d.At, fmt.Sprintf("mailbox %q of %s: other servers read such a name as a file or a command", m, d.Name), "rename it; / ${ .. and a - or ~ at the beginning do not belong in a mailbox")
				continue
			}
			c.mailboxes[fold(m)] = true
		}
		b.p.domains[key] = c
	}
	if len(s.Domains) > 0 && b.p.domains[s.Hostname.ASCII()] == nil {
		b.p.home = s.Domains[0].Name
	}
	for _, d := range s.Domains {
		if c := b.p.domains[d.Name.ASCII()]; c != nil && c.at == d.At {
			b.aliases(d, c)
			b.catchAll(d)
		}
	}
	b.bounces(s)
}

func (b *compiler) catchAll(d Domain) {
	a := d.CatchAll
	switch {
	case a.IsZero():
	case b.p.domains[a.Domain().ASCII()] == nil:
		b.stop(d.At, fmt.Sprintf("catch_all of %s points to %s, outside: every stranger's guess would be mail to it", d.Name, a), "name a mailbox of a domain of yours")
	case !b.exists(a):
		b.stop(d.At, fmt.Sprintf("catch_all of %s points to %s, which does not exist", d.Name, a), "name a mailbox that exists")
	default:
		b.warn(d.At, fmt.Sprintf("catch_all of %s takes mail for every name that a stranger invents", d.Name), "list the mailboxes, if you can")
	}
}

// exists reports whether a is a mailbox or an alias of ours, or may be one
// that the next hop knows.
func (b *compiler) exists(a mail.Address) bool {
	d := b.p.domains[a.Domain().ASCII()]
	if d == nil {
		return false
	}
	local := fold(a.Local())
	_, isAlias := d.aliases[local]
	return d.asked || d.mailboxes[local] || isAlias
}

func (b *compiler) users(s Source) {
	for _, u := range s.Users {
		key := fold(u.Name)
		if old := b.p.identities[key]; old != nil {
			b.stop(u.At, fmt.Sprintf("user %q stands twice, first in %s", u.Name, old.at), "join the two")
			continue
		}
		for _, m := range u.MaySendAs {
			if m.Everybody() {
				b.warn(place(m.At, u.At), fmt.Sprintf("user %q may send as anybody", u.Name), "list the addresses, as *@example.org")
			}
		}
		b.p.identities[key] = &identity{name: u.Name, maySendAs: slices.Clone(u.MaySendAs), mailOnly: u.MailOnly, at: u.At}
	}
}

func (b *compiler) trusted(s Source) {
	var public int
	for _, t := range s.Trusted {
		if len(t.Networks) == 0 {
			b.stop(t.At, fmt.Sprintf("trusted_client %q has no address", t.Name), `write address = "10.1.2.40"`)
		}
		if len(t.MaySendAs) == 0 && !s.led(t.Name) {
			b.warn(t.At, fmt.Sprintf("trusted_client %q may send as nobody", t.Name), `write may_send_as = ["scanner@example.org"]`)
		}
		for _, n := range t.Networks {
			public += b.width(n, "trusted_client", t.Acknowledged)
			b.road(n, s.Around, t.Acknowledged)
			b.balancer(n, s.Listeners, t.Acknowledged)
			b.overlap(n)
		}
		b.p.trusted = append(b.p.trusted, &trusted{name: t.Name, networks: slices.Clone(t.Networks), maySendAs: slices.Clone(t.MaySendAs), at: t.At})
	}
	if public > mostPublic {
		b.stop(s.Trusted[0].At, fmt.Sprintf("all trusted clients together hold %d public addresses, more than %d", public, mostPublic), "name single hosts instead")
	}
	if slices.ContainsFunc(s.Listeners, func(l Listener) bool { return l.Role == Trusted }) {
		return
	}
	if i := slices.IndexFunc(s.Trusted, func(t TrustedClient) bool { return !s.led(t.Name) }); i >= 0 {
		b.warn(s.Trusted[i].At, "trusted clients have no way in", `add listener "trusted" { port = 2525 }: they are known there, at a gateway that names them, and nowhere else`)
	}
}

// led reports whether a gateway leads that trusted client somewhere.
func (s *Source) led(client string) bool {
	return slices.ContainsFunc(s.Gateways, func(g Gateway) bool {
		return slices.ContainsFunc(g.Clients, func(a Allowed) bool { return a.Client == client })
	})
}

func (b *compiler) overlap(n Network) {
	for _, t := range b.p.trusted {
		for _, other := range t.networks {
			if n.Prefix.IsValid() && other.Prefix.Overlaps(n.Prefix) {
				b.stop(n.At, fmt.Sprintf("trusted_client %s overlaps with %s of %q in %s", n.Prefix, other.Prefix, t.name, other.At), "let each address belong to one trusted client")
			}
		}
	}
}

func place(at, otherwise problem.Pos) problem.Pos {
	if at.IsZero() {
		return otherwise
	}
	return at
}

// trustedBy finds the trusted client that an address belongs to.
func (p *Policy) trustedBy(a netip.Addr) (*trusted, Network) {
	for _, t := range p.trusted {
		for _, n := range t.networks {
			if n.Prefix.Contains(a) {
				return t, n
			}
		}
	}
	return nil, Network{}
}

// isOdd reports whether some server or other reads a local part as more than
// a name: as a route, a list, a program or a quoted address (RFC 1123 section
// 5.2.16, RFC 976). Full-width and small forms become ASCII when somebody
// normalises.
func isOdd(local string) bool {
	return strings.ContainsFunc(local, func(r rune) bool {
		switch {
		case r <= ' ', r == 0x7f, strings.ContainsRune(`%!@:,;|"<>()[]\`+"`", r):
			return true
		case r >= 0xff00 && r <= 0xffef, r == 0xfeff, r >= 0xfe50 && r <= 0xfe6f, r >= 0x80 && r <= 0xa0, r >= 0x2000 && r <= 0x206f:
			return true
		}
		return false
	})
}

// isPath reports whether what keeps our mailboxes may read a local part, or what
// stands behind a separator in it, as more than a name: as a file, a folder
// above, a home, an option or an expansion. It is asked of our own domains
// alone; elsewhere X.400 gateways have slashes in their addresses (RFC 2156),
// and telephones two dots.
func isPath(local, separator string) bool {
	begins := func(s string) bool { return s != "" && strings.ContainsRune("-~.", rune(s[0])) }
	detail := func(separator string) bool {
		_, after, ok := strings.Cut(local, separator)
		return ok && separator != "" && begins(after)
	}
	return strings.Contains(local, "/") || strings.Contains(local, "..") || strings.Contains(local, "${") ||
		begins(local) || detail("+") || detail(separator)
}
