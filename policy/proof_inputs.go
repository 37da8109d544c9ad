package policy

import (
	"strings"

	"postern/mail"
)

// foreignNames are domains that nobody has (RFC 2606); a policy that serves
// one of them gets others.
var foreignNames = []string{"far.example", "elsewhere.example", "third.example"}

// foreign returns domains that are not ours.
func (v *prover) foreign() []mail.Domain {
	var list []mail.Domain
	for i := 0; len(list) < 2; i++ {
		name := "stranger" + strings.Repeat("x", i) + ".example"
		if i < len(foreignNames) {
			name = foreignNames[i]
		}
		if d := must(mail.ParseDomain(name)); !v.ours(d) {
			list = append(list, d)
		}
	}
	return list
}

// must returns what cannot fail: the texts are our own.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// address joins two parts; false when they are no address together.
func address(local string, d mail.Domain) (mail.Address, bool) {
	a, err := mail.NewAddress(local, d)
	return a, err == nil
}

// sendersOf lists each kind of reverse-path: none, a stranger's, ours, below
// ours, beside ours, and what each list of permitted senders names.
func (v *prover) sendersOf(s Source) {
	add := func(local string, d mail.Domain) {
		if a, ok := address(local, d); ok {
			v.addSender(mail.ReverseTo(a))
		}
	}
	v.addSender(mail.NullPath())
	add("a", v.foreign()[0])
	for _, d := range v.shapes(s.Domains) {
		add("postmaster", d.Name)
		add("nobody-has-this", d.Name)
		if sub, err := mail.ParseDomain("sub." + d.Name.ASCII()); err == nil {
			add("postmaster", sub)
		}
	}
	for _, u := range s.Users {
		v.addPermitted(u.MaySendAs)
	}
	for _, t := range s.Trusted {
		v.addPermitted(t.MaySendAs)
	}
}

// maxSenders bounds how many single permitted addresses are tried; a thousand
// users' addresses are alike to every rule.
const maxSenders = 24

func (v *prover) addPermitted(list []Senders) {
	for _, m := range list {
		if len(v.senders) >= maxSenders {
			return
		}
		switch m.kind {
		case one:
			v.addSender(mail.ReverseTo(m.address))
		case oneDomain:
			if a, ok := address("someone", m.domain); ok {
				v.addSender(mail.ReverseTo(a))
			}
		case none, everySender, nullSender:
		}
	}
}

func (v *prover) addSender(p mail.ReversePath) {
	for _, s := range v.senders {
		if s.String() == p.String() {
			return
		}
	}
	v.senders = append(v.senders, p)
}

// shapes returns one domain of each kind that the rules can tell apart: two
// domains that differ in their names alone are treated alike.
func (v *prover) shapes(domains []Domain) []Domain {
	var list []Domain
	seen := map[[5]bool]bool{}
	for _, d := range domains {
		foreign := false
		for _, a := range d.Aliases {
			foreign = foreign || !a.Sender.IsZero()
		}
		shape := [5]bool{d.Asked, !d.CatchAll.IsZero(), d.Subaddress != "", len(d.Aliases) > 0, foreign}
		if !seen[shape] {
			seen[shape] = true
			list = append(list, d)
		}
	}
	return list
}

// recipientsOf lists each kind of forward-path: plain ones in each kind of
// domain, and every odd form of each (RFC 1123 section 5.2.16, RFC 976).
func (v *prover) recipientsOf(s Source) {
	far, further := v.foreign()[0], v.foreign()[1]
	v.addRecipient("b", far, "foreign")
	v.addRecipient("b", further, "foreign")
	v.addRecipient("a%"+further.ASCII(), far, "odd")
	v.addRecipient("b", must(mail.ParseDomain("[192.0.2.1]")), "nowhere")
	v.addRecipient("b", must(mail.ParseDomain("[IPv6:2001:db8::1]")), "nowhere")
	if !v.ours(localOnly) {
		v.addRecipient("b", localOnly, "nowhere")
	}
	v.add("<postmaster>", "known")
	v.addRecipient("postmaster", s.Hostname, "known") // RFC 5321 section 4.5.1
	for _, d := range v.shapes(s.Domains) {
		v.domainRecipients(d, far)
	}
	for _, d := range s.Domains { // the names of all of them, and what stands beside each
		v.addRecipient("postmaster", d.Name, "known")
		for _, beside := range []string{"sub." + d.Name.ASCII(), "evil" + d.Name.ASCII(), d.Name.ASCII() + ".far.example"} {
			if other, err := mail.ParseDomain(beside); err == nil && !v.ours(other) {
				v.addRecipient("postmaster", other, "foreign")
			}
		}
	}
}

func (v *prover) domainRecipients(d Domain, far mail.Domain) {
	unknown := "unknown"
	if d.Asked || !d.CatchAll.IsZero() {
		unknown = "known"
	}
	v.addRecipient("nobody-has-this", d.Name, unknown)
	if d.Subaddress != "" && !d.Asked {
		v.addRecipient("postmaster"+d.Subaddress+"detail", d.Name, "known")
	}
	if len(d.Mailboxes) > 0 {
		v.addRecipient(d.Mailboxes[0], d.Name, "known")
	}
	for i, a := range d.Aliases {
		if i < 8 {
			v.addRecipient(a.Name, d.Name, "known")
		}
	}
	for _, local := range append(oddLocals(far), pathLocals...) {
		v.addRecipient(local, d.Name, "odd")
	}
	for _, route := range []string{"<@" + d.Name.ASCII() + ":b@" + far.ASCII() + ">", "<@" + far.ASCII() + ":postmaster@" + d.Name.ASCII() + ">"} {
		v.add(route, "odd")
	}
}

// oddLocals are local parts in which some server or other has read a route.
func oddLocals(far mail.Domain) []string {
	f := far.ASCII()
	return []string{
		"b%" + f, "b%" + f + "%", "b@" + f, f + "!b", "@" + f + ":b", "b@" + f + ",c", "b@" + f + ";c", "b|c",
		"b@" + f + "> ORCPT=rfc822;x", "b:" + f, "b c", "(b)", "b\\@" + f, "b%" + f + "%00",
	}
}

// pathLocals are local parts in which what keeps mailboxes may read a file, an
// option or an expansion.
var pathLocals = []string{"b/c", "b..c", "-b", "~b", ".b", "b+-c", "b+~c", "b+../c", "b+${run{c}}"}

func (v *prover) addRecipient(local string, d mail.Domain, kind string) {
	if a, ok := address(local, d); ok {
		v.add(mail.ForwardTo(a).String(), kind)
	}
}

func (v *prover) add(path, kind string) {
	to, err := mail.ParseForwardPath(path)
	if err != nil {
		return // the domain was long: with this form it makes no path
	}
	text := to.String()
	for _, r := range v.recipients {
		if r.text == text {
			return
		}
	}
	v.recipients = append(v.recipients, kinded{to, text, kind})
}

// Foreign returns a domain that is not ours and belongs to nobody (RFC 2606).
func (p *Policy) Foreign() mail.Domain { return (&prover{p: p}).foreign()[0] }
