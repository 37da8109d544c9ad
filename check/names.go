package check

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

// A server has more names than the one by which somebody asks for a test: it
// greets with one, its address has one in the DNS, and a domain's MX record
// leads to it by a third. It may trust any of them, and serve any of them.

// names are what a target is called.
type names struct {
	given   []mail.Domain // by who asked for the test
	hosts   []mail.Domain // by itself, in its banner and in its answer to EHLO, and by the DNS
	domains []mail.Domain // whose MX record leads to it, so that mail for them goes nowhere else
}

const (
	// maxNames bounds what one address is called: shared hosts have hundreds of
	// names, and each costs the server some thirty recipients.
	maxNames = 3
	// namesPatience is for all questions to the DNS about one address. They
	// help, and a check without a resolver that answers works all the same.
	namesPatience = 5 * time.Second
)

var errNamesPatience = errors.New("the resolver took too long to find the target's names")

// learn finds the target's names, and takes the first of them for that of the host.
func (p *port) learn(ctx context.Context, s verdict.Session) {
	ctx, cancel := context.WithTimeoutCause(ctx, namesPatience, errNamesPatience)
	defer cancel()
	for _, r := range []mail.Reply{s.Banner, s.Hello} {
		if len(r.Lines) > 0 {
			word, _, _ := strings.Cut(r.Lines[0], " ")
			p.names.host(word)
		}
	}
	if p.o.Resolver != nil {
		p.askDNS(ctx)
	}
	if p.facts.Host.IsZero() && len(p.names.hosts) > 0 {
		p.facts.Host = p.names.hosts[0]
	}
	p.forms = p.named(p.forms)
}

func (n *names) host(text string) {
	if d, ok := fullName(text); ok {
		n.hosts = add(n.hosts, d)
	}
}

// askDNS adds the names of the address (PTR), and the domains above all names
// whose mail is led here, with the hosts by which it is.
func (p *port) askDNS(ctx context.Context) {
	ptr, _ := p.o.Resolver.Names(ctx, p.addr.Addr().Unmap())
	for _, name := range ptr[:min(len(ptr), maxNames)] {
		p.names.host(name)
		if !slices.Contains(p.evidence.Names, name) {
			p.evidence.Names = append(p.evidence.Names, name)
		}
	}
	above := slices.Concat(p.names.given, p.names.hosts)
	for _, d := range slices.Clone(above) {
		if _, full := fullName(d.Parent().String()); full {
			above = add(above, d.Parent())
		}
	}
	above = above[:min(len(above), 4*maxNames)]
	led := make([][]string, len(above))
	var wg sync.WaitGroup
	for i, d := range above {
		wg.Go(func() { led[i] = p.ledHere(ctx, d) })
	}
	wg.Wait()
	for i, hosts := range led {
		if len(hosts) > 0 {
			p.names.domains = add(p.names.domains, above[i])
		}
		for _, host := range hosts {
			p.names.host(host)
		}
	}
}

// ledHere returns the hosts by which mail for a domain is led to the tested
// address; a domain without an MX record is its own (RFC 5321 section 5.1).
func (p *port) ledHere(ctx context.Context, d mail.Domain) []string {
	hosts, err := p.o.Resolver.Exchangers(ctx, d.ASCII())
	if err != nil {
		return nil
	}
	here := p.addr.Addr().Unmap()
	var led []string
	for _, host := range hosts[:min(len(hosts), maxNames)] {
		if slices.ContainsFunc(p.addresses(ctx, host), func(a netip.Addr) bool { return a.Unmap() == here }) {
			led = append(led, host)
		}
	}
	return led
}

// named adds, behind each form that names the target, the same with its other
// names.
func (p *port) named(forms []plan.Form) []plan.Form {
	var others []mail.Domain
	for _, d := range slices.Concat(p.names.domains, p.names.hosts) {
		if !d.Equal(p.facts.Host) && !d.Equal(p.facts.Domain) {
			others = add(others, d)
		}
	}
	others = others[:min(len(others), maxNames)]
	list := slices.Clone(forms)
	for _, f := range forms {
		for _, d := range others {
			if f.As.IsZero() && f.NamesTarget() {
				list = append(list, f.Named(d))
			}
		}
	}
	return list
}

// itsOwn reports whether a name is the server's for certain, or its owner's:
// mail for a name that is only a guess may be for whoever owns it.
func (n names) itsOwn(d mail.Domain) bool {
	return slices.ContainsFunc(slices.Concat(n.given, n.domains), d.Within)
}

// guessed reports whether any name of a host is a guess.
func (n names) guessed() bool {
	return slices.ContainsFunc(n.hosts, func(d mail.Domain) bool { return !n.itsOwn(d) })
}

// fullName reads the full name of a host: postmaster@mx is nobody's address.
func fullName(text string) (mail.Domain, bool) {
	d, err := mail.ParseDomain(strings.TrimSuffix(text, "."))
	return d, err == nil && !d.IsLiteral() && strings.Contains(d.String(), ".")
}

func add(list []mail.Domain, d mail.Domain) []mail.Domain {
	if d.IsZero() || slices.ContainsFunc(list, d.Equal) {
		return list
	}
	return append(list, d)
}
