package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"postern/mail"
	"postern/policy"
	"postern/serve"
)

var aliasBlock = block{
	name: "alias", label: "sales", many: true, says: "a name that stands for other addresses",
	words: []word{
		{"to", "list", "", "where it leads"},
		{"sender", "text", "", "the reverse-path of what is forwarded to foreign domains; a domain of ours"},
	},
}

var domainBlock = block{
	name: "domain", label: "example.org", many: true, says: "a domain of ours: mail for its mailboxes comes in from anybody",
	words: []word{
		{"recipients", "list", "the next hop is asked", `the mailboxes that exist, or file("recipients")`},
		{"deliver", "text", "", "where its mailboxes are: lmtp:unix:/path, lmtp:host:port, smtp:host:port, maildir:/path/{local} or hold"},
		{"ask", "text", "deliver", "the server that is asked whether a mailbox exists, where there is no list: lmtp:... or smtp:..."},
		{"catch_all", "text", "", "a mailbox of ours that takes what does not exist"},
		{"subaddress", "text", "", `the separator of details: "+" lets anna+x reach anna`},
	},
	in:   []*block{&aliasBlock},
	read: readDomain,
}

func readDomain(r *reader, s section) {
	if strings.Contains(s.label, "*") {
		r.stop(s.at, fmt.Sprintf("domain %q: a wildcard makes strangers' domains ours", s.label), "name each domain")
		return
	}
	name, err := mail.ParseDomain(s.label)
	if err != nil {
		r.stop(s.at, fmt.Sprintf("domain %q: %v", s.label, err), "name it as example.org")
		return
	}
	d := policy.Domain{Name: name, At: s.at}
	for _, v := range s.texts("recipients") {
		if strings.HasPrefix(v.text, "*") {
			r.stop(v.at, fmt.Sprintf("recipient %q: there are no wildcards; mail for what a stranger invents would be bounced later, to somebody else", v.text),
				"list the mailboxes, leave recipients out so that the next hop is asked, or name a catch_all")
			continue
		}
		local, of, whole := strings.Cut(v.text, "@")
		if domain, err := mail.ParseDomain(of); whole && (err != nil || !domain.Equal(name)) {
			r.stop(v.at, fmt.Sprintf("recipient %q is not of %s", v.text, name), "write the local part alone, or move it to its own domain")
			continue
		}
		if _, err := mail.NewAddress(local, name); err != nil {
			r.stop(v.at, fmt.Sprintf("recipient %q: %v", v.text, err), "write the local part of an address")
			continue
		}
		d.Mailboxes = append(d.Mailboxes, local)
	}
	if v, ok := s.text("subaddress"); ok {
		if len(v.text) != 1 || strings.ContainsAny(v.text, "@.%!\"") {
			r.stop(v.at, fmt.Sprintf("subaddress %q is no separator", v.text), `write "+" or "-"`)
		}
		d.Subaddress = v.text
	}
	d.CatchAll = r.address(s, "catch_all")
	r.hops(s, &d)
	s.each("alias", func(a section) { r.alias(a, &d) })
	r.settings.Policy.Domains = append(r.settings.Policy.Domains, d)
}

// hops reads where the mailboxes are, and whether the next hop is asked for
// them.
func (r *reader) hops(s section, d *policy.Domain) {
	hop := serve.NextHop{Hold: true, At: s.at}
	if v, ok := s.text("deliver"); ok {
		hop, ok = r.hop(v, "deliver")
		if !ok {
			return
		}
	} else if s.body.Attributes["deliver"] == nil {
		r.stop(s.at, fmt.Sprintf("domain %q does not say where its mailboxes are", s.label), `write deliver = "lmtp:unix:/run/dovecot/lmtp", or "hold"`)
	}
	listed := s.body.Attributes["recipients"] != nil
	if v, ok := s.text("ask"); ok {
		ask, ok := r.hop(v, "ask")
		if ok && ask.Network == "" {
			r.stop(v.at, fmt.Sprintf("ask: %q cannot be asked", v.text), "name an lmtp: or smtp: server")
			return
		}
		d.Asked = true
		hop.Ask = &ask
	} else if !listed {
		if hop.Network == "" {
			r.stop(s.at, fmt.Sprintf("nobody can be asked which mailboxes %q has", s.label), `list them: recipients = ["anna"]; mail for unknown ones must be refused, not bounced`)
			return
		}
		d.Asked = true
	}
	hop.Separator = d.Subaddress
	r.settings.Hops[d.Name.ASCII()] = hop
}

// hop reads lmtp:unix:/path, lmtp:host:port, smtp:host:port, maildir:/path, hold.
func (r *reader) hop(v value, name string) (serve.NextHop, bool) {
	h := serve.NextHop{At: v.at}
	kind, rest, _ := strings.Cut(v.text, ":")
	switch path, isUnix := strings.CutPrefix(rest, "unix:"); {
	case v.text == "hold":
		h.Hold = true
		return h, true
	case kind == "maildir" && filepath.IsAbs(rest):
		h.Maildir = rest
		return h, true
	case kind == "lmtp" && isUnix && filepath.IsAbs(path):
		h.LMTP, h.Network, h.Address = true, "unix", path
		return h, true
	case (kind == "lmtp" || kind == "smtp") && !isUnix:
		host, ok := r.hostPort(v, rest, name)
		h.LMTP, h.Network, h.Address = kind == "lmtp", "tcp", host
		return h, ok
	}
	r.stop(v.at, fmt.Sprintf("%s: %q says no place", name, v.text), `write "lmtp:unix:/path", "lmtp:host:port", "smtp:host:port", "maildir:/path" or "hold"`)
	return h, false
}

func (r *reader) alias(s section, d *policy.Domain) {
	a := policy.Alias{Name: s.label, At: s.at}
	for _, v := range s.texts("to") {
		to, err := mail.ParseAddress(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("to: %v", err), "write name@domain")
			continue
		}
		a.To = append(a.To, to)
	}
	if sender := r.address(s, "sender"); !sender.IsZero() {
		a.Sender = mail.ReverseTo(sender)
	}
	d.Aliases = append(d.Aliases, a)
}

func (r *reader) address(s section, name string) mail.Address {
	v, ok := s.text(name)
	if !ok {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(v.text)
	if err != nil {
		r.stop(v.at, fmt.Sprintf("%s: %v", name, err), "write name@domain")
	}
	return a
}
