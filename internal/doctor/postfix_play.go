package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"postern/mail"
	"postern/plan"
)

// play tries every form, and then everything that lists and tables favour,
// from every network of strangers that they name.
func (s *scope) play(to *faults) {
	f := s.favours()
	for _, stranger := range s.families() {
		s.playForms(stranger, to)
		s.playFavours(stranger, f, to)
	}
	played := s.families()
	for _, p := range f.networks {
		if !wide(p) || !s.speaks(p.Addr()) {
			continue
		}
		for _, a := range inside(p) {
			if !slices.Contains(played, a) {
				played = append(played, a)
				s.playForms(a, to)
				s.playFavours(a, &favours{}, to)
			}
		}
	}
}

// everywhereElse are addresses of different corners: a list may leave out a
// network and trust the rest.
var everywhereElse = []netip.Addr{
	netip.MustParseAddr("100.64.0.77"), netip.MustParseAddr("198.51.100.77"), netip.MustParseAddr("45.0.0.77"),
	netip.MustParseAddr("2001:2::77"), netip.MustParseAddr("2a00::77"),
}

// inside returns addresses in a network that are nobody's router or server.
func inside(p netip.Prefix) []netip.Addr {
	var list []netip.Addr
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] = 77
	if b[0] == 0 && len(b) == 4 {
		b[0] = 1 // 0.0.0.0/8 is nobody
	}
	if a, ok := netip.AddrFromSlice(b); ok && p.Contains(a) {
		list = append(list, a)
	}
	for _, a := range everywhereElse {
		if p.Contains(a) {
			list = append(list, a)
		}
	}
	return list
}

func stranger(from netip.Addr) client {
	return client{addr: from, name: "unknown", helo: "client." + strangerDomain}
}

func (s *scope) playForms(from netip.Addr, to *faults) {
	facts := s.facts()
	recipient, err := mail.NewAddress(string(strangerToken), facts.Collector)
	if err != nil {
		return
	}
	for _, f := range plan.Forms() {
		if f.Set == plan.Owner || f.Set == plan.Login {
			continue
		}
		e, missing := f.Expand(facts, strangerToken, recipient)
		if len(missing) > 0 {
			continue
		}
		a := attempt{
			from: from, form: f.ID, client: stranger(from), sender: e.Sender, path: e.Recipient,
			mx: strings.HasSuffix(e.Recipient, "@"+backupDomain),
		}
		at, ok := s.move(&a, f.Move.Name, e.MoveArg)
		if !ok {
			continue
		}
		if a.to, ok = s.router().resolve(e.Recipient); !ok || !s.leads(a.to, facts) {
			continue
		}
		s.try(a, at, to)
	}
}

// facts are what a stranger would know of this server.
func (s *scope) facts() plan.Facts {
	rt := s.router()
	domain := func(name string) mail.Domain {
		d, err := mail.ParseDomain(name)
		if err != nil {
			return mail.Domain{}
		}
		return d
	}
	f := plan.Facts{
		Addr: s.target(), Host: domain(s.text("myhostname")), Domain: domain(s.text("mydomain")),
		Collector: domain(strangerDomain), Backup: domain(backupDomain), CollectorIP: netip.MustParseAddr("198.18.0.99"),
	}
	if !rt.isLocal(f.Domain.String()).yes {
		f.Domain = f.Host
		for _, list := range []string{"mydestination", "virtual_mailbox_domains", "virtual_alias_domains"} {
			for _, w := range rt.get(list).words() {
				if d := domain(w.text); strings.Contains(w.text, ".") && !d.IsZero() {
					f.Domain = d
				}
			}
		}
	}
	for _, w := range rt.get("relay_domains").words() {
		if d := domain(w.text); !d.IsZero() && !rt.isLocal(w.text).yes && f.RelayDomain.IsZero() {
			f.RelayDomain = d
		}
	}
	if a, err := mail.NewAddress("postmaster", f.Domain); err == nil {
		f.Local = a
	}
	return f
}

// leads reports whether mail for r would reach a stranger: by its domain or
// address, or by a way on that another server would follow. What is delivered
// here goes to nobody else, whatever the domain.
func (s *scope) leads(r resolved, f plan.Facts) bool {
	switch {
	case r.class == final:
		return false
	case r.domain == mail.LiteralDomain(f.CollectorIP).String(), isAnybodys(r.domain):
		return true
	}
	return r.routed && r.domain == f.RelayDomain.ASCII() && !f.RelayDomain.IsZero()
}

// move does what a form does besides its envelope. It returns the parameter
// that made it possible, where one did.
func (s *scope) move(a *attempt, name, argument string) (by value, ok bool) {
	proxied := s.proxied.text != ""
	if proxied != strings.HasPrefix(name, "proxy-") {
		return value{}, false // a header is demanded of all, or taken from none
	}
	switch name {
	case "", "after-rset", "data-anyway", "helo-only", "bdat":
	case "after-local":
		a.many = true
	case "early-talk":
		return value{}, !s.postscreen
	case "no-helo":
		a.client.helo = ""
		return value{}, !s.yes("smtpd_helo_required")
	case "helo":
		a.client.helo = argument
	case "starttls", "starttls-cert":
		a.client.cert, a.client.encrypted = name == "starttls-cert", true
		return value{}, s.offersTLS()
	case "xclient", "xclient-login":
		m := s.hasClient("smtpd_authorized_xclient_hosts", a.client)
		a.client = client{addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), name: "localhost", helo: a.client.helo, login: name == "xclient-login"}
		return m.pattern, m.yes
	case "proxy-v1", "proxy-v2":
		if argument == "local" {
			return s.proxied, true
		}
		a.client.addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if claimed, err := netip.ParseAddr(argument); err == nil {
			a.client.addr = claimed
		}
		return s.proxied, true
	default:
		return value{}, false
	}
	return value{}, true
}

// maxPairs bounds the values of one kind that are tried together with those of
// another: a table may ask for both a sender and a recipient.
const maxPairs = 16

// playFavours tries what lists and tables favour: a sender, a HELO name, a
// recipient is anybody's to choose, and so is a verified name in a domain of
// one's own.
func (s *scope) playFavours(from netip.Addr, f *favours, to *faults) {
	if s.proxied.text != "" {
		return
	}
	facts := s.facts()
	rt := s.router()
	base := attempt{from: from, client: stranger(from), sender: "someone@" + strangerDomain}
	base.path = string(strangerToken) + "@" + strangerDomain
	type change func(*attempt) bool
	recipient := func(path string) change {
		return func(a *attempt) (ok bool) {
			a.path = path
			a.to, ok = rt.resolve(path)
			return ok && s.leads(a.to, facts)
		}
	}
	kinds := make([][]change, 4)
	add := func(kind int, c change) { kinds[kind] = append(kinds[kind], c) }
	for _, path := range append(waysOn(facts), allMailboxes(f.recipients)...) {
		add(0, recipient(path))
	}
	for _, k := range f.senders {
		for _, sender := range senders(k) {
			add(1, func(a *attempt) bool { a.sender = sender; return true })
		}
	}
	for _, k := range append(f.helos, from.String()) { // the address: permit_naked_ip_address
		for _, helo := range helos(k) {
			add(2, func(a *attempt) bool { a.client.helo = helo; return true })
		}
	}
	for _, k := range append(f.names, "mail."+strangerDomain) {
		for _, name := range domains(k) {
			if isAnybodys(name) {
				add(3, func(a *attempt) bool { a.client.name, a.client.unverified = name, name; return true })
			}
		}
	}
	try := func(changes ...change) {
		a := base
		if !recipient(a.path)(&a) {
			return
		}
		for _, c := range changes {
			if !c(&a) {
				return
			}
		}
		s.try(a, value{}, to)
	}
	for i, kind := range kinds {
		for _, c := range kind {
			try(c)
		}
		for _, other := range kinds[i+1:] {
			for _, c := range kind[:min(len(kind), maxPairs)] {
				for _, d := range other[:min(len(other), maxPairs)] {
					try(c, d)
				}
			}
		}
	}
}

// waysOn are addresses behind a domain that is relayed for.
func waysOn(f plan.Facts) []string {
	if f.RelayDomain.IsZero() {
		return nil
	}
	to := "@" + f.RelayDomain.ASCII()
	token := string(strangerToken)
	return []string{token + "%" + strangerDomain + to, strangerDomain + "!" + token + to, token + "@" + strangerDomain + to}
}

// senders are the addresses that a stranger writes, for a key.
func senders(k string) []string {
	if k == "<>" {
		return []string{""}
	}
	local, domain, ok := strings.Cut(k, "@")
	var list []string
	switch {
	case !ok && strings.HasPrefix(k, "."):
		list = []string{"someone@host" + k}
	case !ok:
		list = []string{"someone@" + k, "someone@host." + k, k + "@" + strangerDomain, "someone@" + strangerLabel + k}
	case domain == "":
		list = []string{local + "@" + strangerDomain}
	case local == "":
		list = []string{"someone" + k, "someone@" + strangerLabel + domain}
	default:
		list = []string{k}
	}
	return slices.DeleteFunc(list, func(s string) bool { return !isHostname(s[strings.LastIndexByte(s, '@')+1:]) })
}
