package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"postern/plan"
)

// The stranger's own names. The top-level domain is one that nobody has (RFC
// 2606), so that no table can mean it.
const (
	strangerLabel  = "strangers-own" // what whoever likes may register below any public suffix
	strangerDomain = strangerLabel + ".invalid"
	backupDomain   = "mx-of-yours." + strangerDomain
	strangerToken  = plan.Token("token")
)

// exampleTops stand for the top-level domains of the world, as in a manual (RFC
// 2606). Under any other that is in no list of public suffixes, as "lan" or
// "localdomain", nobody on the internet has a name.
var exampleTops = []string{"example", "invalid", "test"}

// mailProviders are domains where anybody may have a mailbox: whoever lets
// strangers send there lets them send to strangers.
var mailProviders = []string{
	"163.com", "aol.com", "free.fr", "gmail.com", "gmx.com", "gmx.de", "gmx.net", "googlemail.com", "hotmail.com", "icloud.com",
	"libero.it", "live.com", "mail.ru", "me.com", "msn.com", "orange.fr", "outlook.com", "proton.me", "protonmail.com", "qq.com",
	"t-online.de", "web.de", "yahoo.com", "yandex.ru", "zoho.com",
}

// isAnybodys reports whether a stranger can have a mailbox at a domain of the
// kind that they choose: it lies in a name of their own, as registered below a
// public suffix, or at a provider.
func isAnybodys(domain string) bool {
	if slices.Contains(mailProviders, domain) {
		return true
	}
	suffix, managed := publicsuffix.PublicSuffix(domain)
	if domain == suffix || !managed && !strings.Contains(suffix, ".") && !slices.Contains(exampleTops, suffix) {
		return false
	}
	registered := strings.Split(strings.TrimSuffix(domain, "."+suffix), ".")
	return strings.Contains(registered[len(registered)-1], strangerLabel)
}

// favours are what lists and tables give weight to. Each is tried by a stranger
// who brings it.
type favours struct {
	networks   []netip.Prefix
	senders    []string
	helos      []string
	names      []string // verified names of clients
	recipients []string
	seen       map[string]bool // tables and classes that were looked through: they may name each other
}

// first reports whether something was not looked through yet.
func (f *favours) first(kind, subject, name string) bool {
	k := kind + " " + subject + " " + name
	again := f.seen[k]
	f.seen[k] = true
	return !again
}

// maxSightings bounds how many are tried: a table may have a million lines.
const maxSightings = 200

func (f *favours) network(p netip.Prefix) {
	if len(f.networks) < maxSightings && !slices.Contains(f.networks, p) {
		f.networks = append(f.networks, p)
	}
}

func note(list *[]string, texts ...string) {
	for _, text := range texts {
		if text != "" && len(*list) < maxSightings && !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
}

// favours looks through all lists and tables that could permit.
func (s *scope) favours() *favours {
	f := &favours{seen: map[string]bool{}}
	s.favouredClients(f, "mynetworks")
	s.favouredClients(f, "smtpd_authorized_xclient_hosts")
	for _, stage := range stages {
		s.favouredBy(f, stage.subject, s.get(stage.list))
	}
	rt := s.router()
	for _, p := range rt.patterns(rt.get("relay_domains")) {
		note(&f.recipients, p.samples()...)
	}
	note(&f.recipients, "postmaster", "abuse", "com", "net", "org", "co.uk")
	return f
}

func (s *scope) favouredClients(f *favours, list string) {
	for _, p := range s.patterns(s.get(list)) {
		note(&f.names, p.samples()...)
		if p.table != nil {
			for _, n := range p.table.networks() {
				f.network(n)
			}
		}
		if n, flaw := parseNetwork(p.text.text); flaw == "" {
			f.network(n)
			if p.not {
				f.network(everywhere(n.Addr()))
			}
		}
	}
}

// samples are names or addresses that a pattern means.
func (p *pattern) samples() []string {
	switch {
	case p.table != nil:
		return p.table.samples(func(*entry) bool { return true })
	case isNetwork(p.text.text):
		return nil
	}
	return []string{strings.ToLower(p.text.text)}
}

func (s *scope) favouredBy(f *favours, subject string, list value) {
	for _, r := range restrictions(subject, list) {
		word := strings.ToLower(r.word.text)
		if s.isRestrictionClass(r.word.text) && f.first("class", subject, r.word.text) {
			s.favouredBy(f, subject, s.get(r.word.text))
		}
		who, ok := strings.CutPrefix(word, "check_")
		if name := tableOf(r.argument); ok && words[word] > 0 && isTable(name.text) && word != "check_policy_service" {
			if who = strings.TrimSuffix(who, "_access"); f.first(who, subject, name.text) {
				s.favouredIn(f, who, subject, s.table(name))
			}
		}
	}
}

// favouredIn notes what an access table does not refuse.
func (s *scope) favouredIn(f *favours, who, subject string, t *table) {
	h := &hearing{scope: s, subject: subject, bold: true}
	samples := t.samples(func(e *entry) bool {
		o, _ := h.action(e)
		if o == permit {
			return true
		}
		word := strings.Fields(e.result.text)
		return len(word) > 0 && s.isRestrictionClass(word[0])
	})
	for _, leaf := range t.leaves() {
		for i := range leaf.entries {
			s.favouredBy(f, subject, leaf.entries[i].result)
		}
	}
	switch who {
	case "client":
		note(&f.names, samples...)
		for _, n := range t.networks() {
			f.network(n)
		}
	case "helo":
		note(&f.helos, samples...)
		for _, n := range t.networks() {
			for _, a := range inside(n) {
				note(&f.helos, a.String())
			}
		}
	case "sender":
		note(&f.senders, samples...)
	case "recipient":
		note(&f.recipients, samples...)
	}
}

// mailboxes are addresses of a stranger that a key, or a text that an
// expression matches, could mean: with the key in front, behind, or in the
// middle of what a stranger may choose.
func mailboxes(k string) []string {
	local, domain, ok := strings.Cut(k, "@")
	token := string(strangerToken)
	if !ok {
		list := []string{k + "@" + strangerDomain}
		for _, d := range domains(k) {
			list = append(list, token+"@"+d)
		}
		return append(list, token+k+token+"@"+strangerDomain, token+k+"@"+strangerDomain, k+token+"@"+strangerDomain)
	}
	if local == "" {
		local = token
	}
	if domain == "" {
		return []string{local + "@" + strangerDomain, token + local + "@" + strangerDomain}
	}
	var list []string
	for _, d := range domains(domain) {
		list = append(list, local+"@"+d, token+local+"@"+d)
	}
	return list
}

// allMailboxes are those of each key, and those of which one key names the
// local part and another one the domain.
func allMailboxes(keys []string) []string {
	var all, locals, hosts []string
	for _, k := range keys {
		all = append(all, mailboxes(k)...)
		local, domain, ok := strings.Cut(k, "@")
		if ok || !strings.Contains(k, ".") {
			note(&locals, local)
		}
		if !ok {
			domain = k
		}
		for _, d := range domains(domain) {
			if isAnybodys(d) {
				note(&hosts, d)
			}
		}
	}
	for _, local := range locals[:min(len(locals), maxPairs)] {
		for _, host := range hosts[:min(len(hosts), maxPairs)] {
			note(&all, local+"@"+host)
		}
	}
	return all
}

// domains are names that a key for a domain, or for what is below it, could mean.
func domains(k string) []string {
	bare := strings.TrimPrefix(k, ".")
	if !isHostname(bare) {
		return nil
	}
	return []string{bare, strangerLabel + "." + bare, "host." + strangerLabel + "." + bare, strangerLabel + bare, bare + "." + strangerDomain}
}

// helos are the names that a stranger says, for a key.
func helos(k string) []string {
	if strings.ContainsAny(k, "<>()\\\";@") { // smtpd turns these into question marks
		return nil
	}
	if strings.HasPrefix(k, ".") {
		return []string{"host" + k}
	}
	return []string{k, "host." + k, strangerLabel + k}
}
