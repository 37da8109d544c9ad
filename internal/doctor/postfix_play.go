package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"postern/mail"
	"postern/plan"
)

// The stranger's own names. The top-level domain is one that nobody has (RFC
// 2606), so that no table can mean it.
const (
	strangerDomain = "relaytest.invalid"
	backupDomain   = "mx-of-yours.relaytest.invalid"
	strangerToken  = plan.Token("token")
)

// play tries every form, and then every key that the tables gave weight to,
// from every network of strangers that the lists name.
func (s *scope) play(to *faults) {
	for _, stranger := range s.families() {
		s.playFrom(stranger, to)
	}
	tried := 0
	for i := 0; i < len(s.seen.networks); i++ { // grows while it is walked
		p := s.seen.networks[i]
		if !wide(p) || tried == maxSightings || p.Addr().Is4() && s.text("inet_protocols") == "ipv6" || p.Addr().Is6() && s.text("inet_protocols") == "ipv4" {
			continue
		}
		tried++
		s.playFrom(inside(p), to)
	}
}

// inside returns an address in a network that is nobody's router or server.
func inside(p netip.Prefix) netip.Addr {
	for _, a := range []string{"198.18.0.77", "2001:2::77"} {
		if a := netip.MustParseAddr(a); p.Contains(a) {
			return a
		}
	}
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] = 77
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (s *scope) playFrom(stranger netip.Addr, to *faults) {
	facts := s.facts()
	recipient, err := mail.NewAddress(string(strangerToken), facts.Collector)
	if err != nil {
		return
	}
	base := client{addr: stranger, name: "unknown", helo: "client." + strangerDomain}
	for _, f := range plan.Forms() {
		if f.Set == plan.Owner || f.Set == plan.Login {
			continue
		}
		e, missing := f.Expand(facts, strangerToken, recipient)
		if len(missing) > 0 {
			continue
		}
		a := attempt{from: stranger, form: f.ID, client: base, sender: e.Sender, mx: strings.HasSuffix(e.Recipient, "@"+backupDomain)}
		at, ok := s.move(&a, f.Move.Name, e.MoveArg)
		if !ok {
			continue
		}
		if a.to, ok = s.resolve(e.Recipient); !ok || !s.leads(a.to, facts) {
			continue
		}
		s.try(a, at, to)
	}
	s.playKeys(base, to)
}

// facts are what a stranger would know of this server.
func (s *scope) facts() plan.Facts {
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
	if !s.isLocal(f.Domain.String()).yes {
		f.Domain = f.Host
		for _, list := range []string{"mydestination", "virtual_mailbox_domains", "virtual_alias_domains"} {
			for _, w := range s.get(list).words() {
				if d := domain(w.text); strings.Contains(w.text, ".") && !d.IsZero() {
					f.Domain = d
				}
			}
		}
	}
	for _, w := range s.get("relay_domains").words() {
		if d := domain(w.text); !d.IsZero() && !s.isLocal(w.text).yes && f.RelayDomain.IsZero() {
			f.RelayDomain = d
		}
	}
	if a, err := mail.NewAddress("postmaster", f.Domain); err == nil {
		f.Local = a
	}
	return f
}

// leads reports whether mail for r would reach the stranger's collector: by
// its domain or address, or by a way on that another server would follow.
func (s *scope) leads(r resolved, f plan.Facts) bool {
	if r.class == final && r.by.text == "" {
		return false
	}
	if r.domain == strangerDomain || r.domain == backupDomain || r.domain == mail.LiteralDomain(f.CollectorIP).String() {
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
		a.client.cert = name == "starttls-cert"
		return value{}, s.offersTLS()
	case "xclient", "xclient-login":
		m := s.matchClient(s.get("smtpd_authorized_xclient_hosts"), a.client, 0)
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

// playKeys tries the keys that tables answer OK to: a sender, a HELO name or a
// PTR record is anybody's to choose.
func (s *scope) playKeys(base client, to *faults) {
	if s.proxied.text != "" {
		return
	}
	plainTo, ok := s.resolve(string(strangerToken) + "@" + strangerDomain)
	if !ok {
		return
	}
	try := func(change func(*attempt)) {
		a := attempt{from: base.addr, client: base, sender: "someone@" + strangerDomain, to: plainTo}
		change(&a)
		s.try(a, value{}, to)
	}
	for _, key := range slices.Clone(s.seen.senders) {
		try(func(a *attempt) { a.sender = senderOf(key) })
	}
	for _, key := range slices.Clone(s.seen.helos) {
		try(func(a *attempt) { a.client.helo = below(key) })
	}
	for _, key := range slices.Clone(s.seen.unverified) {
		try(func(a *attempt) { a.client.unverified = below(key) })
	}
	for _, key := range slices.Clone(s.seen.names) {
		// A verified name proves its domain; a whole top-level domain proves nothing.
		if bare := strings.TrimPrefix(key, "."); bare != "localhost" && !strings.ContainsAny(bare, ".:@") && strings.Trim(bare, "0123456789") != "" {
			try(func(a *attempt) { a.client.name = "client.somebody." + bare })
		}
	}
	try(func(a *attempt) { a.client.helo = base.addr.String() }) // permit_naked_ip_address
}

func senderOf(key string) string {
	local, domain, ok := strings.Cut(key, "@")
	switch {
	case key == "<>":
		return ""
	case !ok:
		return "someone@" + below(key)
	case domain == "":
		return local + "@" + strangerDomain
	}
	return key
}

// below returns a name that a key for a domain or for what is below it means.
func below(key string) string {
	if strings.HasPrefix(key, ".") {
		return "host" + key
	}
	return key
}
