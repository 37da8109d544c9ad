package policy

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// What an alias may come to: RFC 5321 section 3.9 leaves it open, and a graph
// of aliases without a bound multiplies mail.
const (
	maxAliasDepth  = 5
	maxAliasFanOut = 100
)

// aliases resolves the aliases of one domain to the addresses that they end
// at, each once.
func (b *compiler) aliases(d Domain, c *domain) {
	for _, a := range d.Aliases {
		name := fold(a.Name)
		switch {
		case isOdd(a.Name), isPath(a.Name, d.Subaddress):
			b.stop(a.At, fmt.Sprintf("alias %q of %s: other servers read such a name as a route, a file or a command", a.Name, d.Name), "rename it")
			continue
		case c.aliases[name] != nil:
			b.stop(a.At, fmt.Sprintf("alias %q of %s stands twice, first in %s", a.Name, d.Name, c.aliases[name].at), "join the two")
			continue
		case len(a.To) == 0:
			b.stop(a.At, fmt.Sprintf("alias %q of %s leads nowhere", a.Name, d.Name), `write to = ["anna@example.org"]`)
			continue
		}
		e := expansion{b: b, seen: map[string]bool{}}
		e.add(a, d.Name, nil)
		c.aliases[name] = &alias{name: name + "@" + d.Name.ASCII(), goes: e.goes, at: a.At}
	}
}

// bounces holds each sender in whose name an alias forwards to a foreign
// domain to what it is for: bounces must end with somebody of ours. One that
// leads outside again would forward a bounce with a sender, to be bounced
// again, without end: each is a new message, whose hops nobody counts.
func (b *compiler) bounces(s Source) {
	for _, d := range s.Domains {
		for _, a := range d.Aliases {
			sender := a.Sender.Address()
			if a.Sender.IsZero() || a.Sender.Null() || b.p.domains[sender.Domain().ASCII()] == nil {
				continue // an alias that needs one was refused
			}
			back := b.p.find(mail.ForwardTo(sender))
			outside := slices.IndexFunc(back.goes, func(g Destination) bool { return b.p.domains[g.To.Domain().ASCII()] == nil })
			switch {
			case !back.known:
				b.warn(a.At, fmt.Sprintf("alias %q of %s forwards in the name of %s, which does not exist, so bounces come back to nobody", a.Name, d.Name, sender),
					"list that mailbox, or name one that exists")
			case outside >= 0:
				b.stop(a.At, fmt.Sprintf("alias %q of %s forwards in the name of %s, which leads to %s: a bounce would be forwarded again, without end", a.Name, d.Name, sender, back.goes[outside].To),
					`write sender = "owner-NAME@DOMAIN", and an alias of that name that leads to a mailbox of yours`)
			}
		}
	}
}

// An expansion follows one alias to its ends.
type expansion struct {
	b       *compiler
	goes    []Destination
	seen    map[string]bool
	stopped bool
}

func (e *expansion) add(a Alias, of mail.Domain, above []string) {
	self := fold(a.Name) + "@" + of.ASCII()
	for _, name := range above {
		if name == self {
			e.fail(a.At, fmt.Sprintf("alias %s leads back to itself: %s", self, strings.Join(append(above, self), " -> ")), "break the circle")
			return
		}
	}
	if above = append(above, self); len(above) > maxAliasDepth {
		e.fail(a.At, fmt.Sprintf("alias %s leads through more than %d others", above[0], maxAliasDepth), "name the mailboxes themselves")
		return
	}
	for _, to := range a.To {
		if !e.stopped {
			e.follow(a, to, above)
		}
	}
}

func (e *expansion) follow(a Alias, to mail.Address, above []string) {
	d := e.b.p.domains[to.Domain().ASCII()]
	if next, of, ok := e.aliasOf(to); ok {
		e.add(next, of, above)
		return
	}
	destination := Destination{To: to.ALabels()}
	switch {
	case isOdd(to.Local()) || to.Domain().IsLiteral() || d != nil && isPath(to.Local(), d.subaddress):
		e.fail(a.At, fmt.Sprintf("alias %s leads to %s: other servers read such an address as a route, a file or a command", above[0], to), "use name@domain only")
		return
	case d == nil && (a.Sender.IsZero() || a.Sender.Null() || e.b.p.domains[a.Sender.Address().Domain().ASCII()] == nil):
		e.fail(a.At, fmt.Sprintf("alias %s forwards to %s, which is not ours, in the name of strangers", above[0], to),
			`write sender = "owner-NAME@DOMAIN" with a domain of yours, which then gets the bounces`)
		return
	case d == nil:
		destination.From, destination.Foreign = a.Sender, true
	case !d.asked && !d.mailboxes[fold(to.Local())]:
		e.fail(a.At, fmt.Sprintf("alias %s leads to %s, which does not exist", above[0], to), "correct it, or list the mailbox")
		return
	}
	if key := fold(to.Local()) + "@" + to.Domain().ASCII(); !e.seen[key] {
		e.seen[key] = true
		e.goes = append(e.goes, destination)
	}
	if len(e.goes) > maxAliasFanOut {
		e.fail(a.At, fmt.Sprintf("alias %s leads to more than %d addresses", above[0], maxAliasFanOut), "use a mailing list")
	}
}

func (e *expansion) fail(at problem.Pos, what, do string) {
	if !e.stopped {
		e.b.stop(at, what, do)
	}
	e.stopped = true
}

// aliasOf finds the alias that to is.
func (e *expansion) aliasOf(to mail.Address) (Alias, mail.Domain, bool) {
	for _, d := range e.b.p.source.Domains {
		if !d.Name.Equal(to.Domain()) {
			continue
		}
		for _, a := range d.Aliases {
			if fold(a.Name) == fold(to.Local()) {
				return a, d.Name, true
			}
		}
	}
	return Alias{}, mail.Domain{}, false
}
