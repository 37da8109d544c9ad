package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/mail"
)

// A Template is the text of a path or of a move's argument with placeholders
// in braces. Forms are malformed on purpose, so what a Template expands to is
// bytes for the wire and not an address.
type Template struct {
	parts  []part
	params string // ESMTP parameters, a template of its own, after " || "
}

type part struct {
	text string // literal, or the name of a placeholder
	name bool
}

// The placeholders and what is missing when a target has no such fact.
var placeholders = map[string]string{
	"x":       "a collector (--collector DOMAIN)",
	"t":       "a token",
	"tu":      "a collector (--collector DOMAIN)",
	"td":      "a collector (--collector DOMAIN)",
	"tdupper": "a collector (--collector DOMAIN)",
	"tdwide":  "a collector (--collector DOMAIN)",
	"cip":     "the address of the collector (--collector-listen ADDR:PORT)",
	"host":    "the target's own name (--host NAME)",
	"dom":     "a domain that the target serves (--domain NAME)",
	"local":   "a mailbox that the target serves (--recipient ADDRESS)",
	"rd":      "a domain that the target relays for (--relay-domain NAME)",
	"partner": "a domain that the target may trust (--partner DOMAIN)",
	"mxd":     "a zone of our own that lists the target as an MX (--zone NAME)",
	"ch":      "a host name of the collector (--collector DOMAIN with an MX, or --zone NAME)",
	"c4":      "an IPv4 address of the collector (--collector-address ADDR)",
	"c6":      "an IPv6 address of the collector (--collector-address ADDR)",
	"p25":     "a collector that listens for mail (--collector DOMAIN)",
	"p443":    "port 443 of the collector (--collector-ports 443)",
	"p465":    "port 465 of the collector (--collector-ports 465)",
	"p587":    "port 587 of the collector (--collector-ports 587)",
	"xa":      "the target's address",
	"ip":      "the target's address",
	"addr":    "the target's address",
}

var escapes = strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r", `\0`, "\x00", `\s`, " ")

func parseTemplate(cell string) (Template, error) {
	text, params, _ := strings.Cut(cell, " || ")
	t := Template{params: params}
	for text != "" {
		literal, rest, ok := strings.Cut(text, "{")
		if literal != "" {
			t.parts = append(t.parts, part{text: escapes.Replace(literal)})
		}
		if !ok {
			break
		}
		name, rest, ok := strings.Cut(rest, "}")
		if _, known := placeholders[name]; !ok || !known {
			return Template{}, fmt.Errorf("unknown placeholder {%s in %q", name, cell)
		}
		t.parts = append(t.parts, part{text: name, name: true})
		text = rest
	}
	return t, nil
}

// Uses reports whether the template holds that placeholder.
func (t Template) Uses(name string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.name && p.text == name })
}

// Facts are what is known of a target and of the collector; each may be
// missing, and a form that needs it is then untested with that reason.
type Facts struct {
	Addr        netip.Addr       // the tested address
	Host        mail.Domain      // the target's own name: banner, PTR or the name given
	Domain      mail.Domain      // a domain that it serves
	Local       mail.Address     // a mailbox that it serves
	RelayDomain mail.Domain      // a domain for which it is a backup or a gateway
	Partner     mail.Domain      // a domain that it may trust, as that of a customer
	Backup      mail.Domain      // a name in our zone that lists the target as the second MX
	Collector   mail.Domain      // mail for it reaches us
	CollectorIP netip.Addr       // where it arrives
	Front       Front            // where a proxy can be led to
	Sender      mail.ReversePath // the neutral sender; zero: the token at the collector's domain
}

// A Front is the collector as others reach it: proxies are asked for these
// addresses and for no others.
type Front struct {
	Host  string            // a name that leads to it, "" for none
	Four  netip.Addr        // its IPv4 address
	Six   netip.Addr        // its IPv6 address
	Ports map[uint16]uint16 // the ports that it serves, each for the one that it stands for: 25 for 25 in earnest, any other in a lab
}

// An Envelope is a form expanded for one target and one token: the bytes that
// stand between the brackets of MAIL and RCPT, and their parameters.
type Envelope struct {
	Sender          string
	SenderParams    string
	Recipient       string
	RecipientParams string
	MoveArg         string
}

// Expand fills a form's templates. What is missing is returned in words for a
// person, each once; the envelope is then of no use.
func (f Form) Expand(facts Facts, token Token, recipient mail.Address) (Envelope, []string) {
	if !f.As.IsZero() {
		facts.Host, facts.Domain = f.As, f.As
	}
	values := facts.values(token, recipient)
	var missing []string
	fill := func(t Template) (string, string) {
		text := t.expand(values, &missing)
		params, err := parseTemplate(t.params)
		if err != nil {
			missing = append(missing, err.Error()) // forms_test expands every form: cannot happen
		}
		return text, params.expand(values, &missing)
	}
	var e Envelope
	e.Sender, e.SenderParams = fill(f.Sender)
	e.Recipient, e.RecipientParams = fill(f.Recipient)
	e.MoveArg, _ = fill(f.Move.Arg)
	return e, missing
}

func (t Template) expand(values map[string]string, missing *[]string) string {
	var b strings.Builder
	for _, p := range t.parts {
		if !p.name {
			b.WriteString(p.text)
			continue
		}
		value := values[p.text]
		if value == "" && !slices.Contains(*missing, placeholders[p.text]) {
			*missing = append(*missing, placeholders[p.text])
		}
		b.WriteString(value)
	}
	return b.String()
}

func (f Facts) values(token Token, recipient mail.Address) map[string]string {
	v := map[string]string{
		"host": f.Host.String(), "dom": f.Domain.String(), "rd": f.RelayDomain.String(), "partner": f.Partner.String(), "t": string(token),
		"mxd": f.Backup.String(), "local": f.Local.String(),
		"ip": mail.LiteralDomain(f.Addr).String(), "cip": mail.LiteralDomain(f.CollectorIP).String(),
	}
	if f.Addr.IsValid() {
		v["addr"], v["xa"] = f.Addr.String(), inAuthority(f.Addr)
	}
	f.Front.into(v)
	if recipient.IsZero() {
		return v
	}
	domain := recipient.Domain().String()
	v["tu"], v["td"] = recipient.Local(), domain
	v["tdupper"] = strings.ToUpper(domain)
	v["tdwide"] = strings.ReplaceAll(domain, ".", "\u3002")
	// The neutral sender is another address than the recipient, so that "plain"
	// is mail between two strangers; a notice to it still names the form.
	v["x"] = strings.Replace(recipient.String(), string(token), "s-"+string(token), 1)
	if !f.Sender.IsZero() {
		v["x"] = f.Sender.Address().String()
	}
	return v
}

// into adds what a proxy is asked for.
func (f Front) into(v map[string]string) {
	v["ch"], v["c4"], v["c6"] = f.Host, inAuthority(f.Four), inAuthority(f.Six)
	for stands, port := range f.Ports {
		v[fmt.Sprintf("p%d", stands)] = fmt.Sprint(port)
	}
}

// inAuthority is an address as it stands before ":port" (RFC 3986 section 3.2.2).
func inAuthority(a netip.Addr) string {
	switch a = a.Unmap().WithZone(""); {
	case !a.IsValid():
		return ""
	case a.Is6():
		return "[" + a.String() + "]"
	}
	return a.String()
}

// For returns the front as far as a proxy at a means the same machine by it:
// our loopback is not its loopback, and our private network is hardly its own.
func (f Front) For(a netip.Addr) Front {
	same := func(c netip.Addr) netip.Addr {
		switch {
		case c.IsLoopback() && !a.IsLoopback(), (c.IsPrivate() || c.IsLinkLocalUnicast()) && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast():
			return netip.Addr{}
		}
		return c
	}
	f.Four, f.Six = same(f.Four), same(f.Six)
	if !f.Four.IsValid() && !f.Six.IsValid() {
		f.Host = "" // it would lead to the same places
	}
	return f
}
