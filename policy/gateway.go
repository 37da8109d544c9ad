package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// A Gateway is a way out for connections: a proxy that takes people whom we
// know to places that are named, and nobody else anywhere.
type Gateway struct {
	Name    string // unique among listeners and gateways
	Login   bool   // users may log in
	Clients []Allowed
	To      []Reach
	At      problem.Pos
}

// An Allowed names a trusted client that needs no login.
type Allowed struct {
	Client string
	At     problem.Pos
}

// A Reach is a place to which a gateway leads: a host by its name, an address,
// or every host, on one port.
type Reach struct {
	name string // in A-labels; "" for an address or every host
	addr netip.Addr
	any  bool
	port uint16
	At   problem.Pos
}

// smtpPort is where mail is relayed: for a host that anybody may name it would
// make an open relay of everyone who has a password (RFC 5321 section 2.3.10).
const smtpPort = 25

// ParseReach reads "mail.example.org:587", "192.0.2.7:25", "[2001:db8::1]:25"
// or "*:443".
func ParseReach(s string) (Reach, error) {
	host, port, ok := cutPort(s)
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || n == 0 {
		return Reach{}, fmt.Errorf("%q is no host and port", s)
	}
	r := Reach{port: uint16(n)}
	if host == "*" {
		r.any = true
		return r, nil
	}
	place, err := NewPlace(host, r.port)
	r.name, r.addr = place.Name, place.Addr
	return r, err
}

func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = s[:i], s[i+1:]
	if strings.HasPrefix(host, "[") != strings.Contains(host, ":") {
		return "", "", false
	}
	return strings.Trim(host, "[]"), port, host != ""
}

// String returns the reach as ParseReach reads it.
func (r Reach) String() string {
	if r.any {
		return "*:" + strconv.Itoa(int(r.port))
	}
	return Place{Name: r.name, Addr: r.addr, Port: r.port}.String()
}

// Port returns the port.
func (r Reach) Port() uint16 { return r.port }

// A Place is where a client wants to be connected to: a name or an address,
// and a port. The zero Place is none.
type Place struct {
	Name string // in A-labels and lower case; "" for an address
	Addr netip.Addr
	Port uint16
}

// NewPlace reads a host as clients name it. A name that could be an address is
// one (192.0.2.7 in a SOCKS request for a name), so that nothing has two forms.
func NewPlace(host string, port uint16) (Place, error) {
	bare, ended := strings.CutSuffix(host, "]")
	if bare, began := strings.CutPrefix(bare, "["); began && ended {
		host = bare
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return Place{Addr: a.Unmap(), Port: port}, nil
	}
	d, err := mail.ParseDomain(strings.TrimSuffix(host, "."))
	if err != nil || d.IsLiteral() || numeric(d.ASCII()) {
		return Place{}, fmt.Errorf("%s is neither the name of a host nor an address", shown(host))
	}
	return Place{Name: d.ASCII(), Port: port}, nil
}

// numeric reports a name whose last label is a number: some libraries read
// 127.1 and 0x7f.1 as addresses, and no top-level domain looks like that.
func numeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil
}

// String returns host:port.
func (p Place) String() string {
	switch {
	case p.Addr.IsValid():
		return netip.AddrPortFrom(p.Addr, p.Port).String()
	case p.Name == "":
		return ""
	}
	return p.Name + ":" + strconv.Itoa(int(p.Port))
}

// covers reports whether a place is one that the reach names.
func (r Reach) covers(to Place) bool {
	switch {
	case r.port != to.Port:
		return false
	case r.any:
		return true
	case r.addr.IsValid():
		return r.addr == to.Addr
	}
	return r.name == to.Name && r.name != ""
}

// A Passage lets one connection through a gateway. Only Pass makes one; the
// zero Passage leads nowhere.
type Passage struct {
	reason Reason
	who    string
	to     Place
	reach  Reach
	own    func(netip.Addr) bool
}

// IsZero reports whether g leads nowhere.
func (g Passage) IsZero() bool { return g.reason == 0 }

// Reason returns why: Authenticated or TrustedPeer.
func (g Passage) Reason() Reason { return g.reason }

// Who returns the user or the trusted client.
func (g Passage) Who() string { return g.who }

// To returns the place.
func (g Passage) To() Place { return g.to }

// Origin returns the line of the configuration that names the place.
func (g Passage) Origin() problem.Pos { return g.reach.At }

// Closes says why the connection must not go to an address that the place's
// name was resolved to, or "". Only an address that is written in the
// configuration may be one of this machine or of its neighbours: a name may
// point there tomorrow (DNS rebinding).
func (g Passage) Closes(a netip.Addr) string {
	switch {
	case g.IsZero():
		return "no passage"
	case g.reach.addr.IsValid() && g.reach.addr == a.Unmap():
		return ""
	}
	return Inside(a, g.own)
}

// The causes for which a gateway refuses.
const (
	NoPlace  Cause = "place_not_named"
	InsideUs Cause = "place_inside"
	MailOnly Cause = "token_for_mail"
)

// A passing is one question to a gateway, with all that is found for it.
type passing struct {
	p        *Policy
	client   Client
	gateway  *Gateway
	identity *identity
	trusted  *trusted
	to       Place
	reach    *Reach
}

// A passRule is one reason to refuse a passage: as with mail, each is a lock,
// and the tests take every single one away.
type passRule struct {
	name    string
	asks    string
	refuses func(q *passing) *Refusal
}

// passRules are asked in this order; a passage is given when all are silent.
var passRules = []passRule{
	{"gateway", "is this way out still open?", func(q *passing) *Refusal {
		if q.gateway == nil {
			return refuse(NoSuchListener, problem.Pos{})
		}
		return nil
	}},
	{"known", "is it somebody whom we know?", func(q *passing) *Refusal {
		if q.identity == nil && q.trusted == nil {
			return refuse(NeedLogin, q.gateway.At, "")
		}
		return nil
	}},
	{"token", "is its login for gateways too?", func(q *passing) *Refusal {
		if q.identity != nil && q.identity.mailOnly {
			return refuse(MailOnly, q.gateway.At, named(q.identity.name))
		}
		return nil
	}},
	{"true-address", "is the client's address its own?", func(q *passing) *Refusal {
		if q.identity == nil && q.trusted != nil && q.client.Suspended {
			return refuse(TrustWithdrawn, q.gateway.At)
		}
		return nil
	}},
	{"named", "does the configuration name the place?", func(q *passing) *Refusal {
		if q.reach == nil {
			return refuse(NoPlace, q.gateway.At, shown(q.to.String()))
		}
		return nil
	}},
	{"outside", "is it no address of this machine or its neighbours?", func(q *passing) *Refusal {
		if q.reach != nil && q.reach.any && (q.to.Addr.IsValid() && Inside(q.to.Addr, q.p.own) != "" || local(q.to.Name)) {
			return refuse(InsideUs, q.reach.At, shown(q.to.String()))
		}
		return nil
	}},
}

// local reports names that mean this machine (RFC 6761 section 6.3).
func local(name string) bool { return name == "localhost" || strings.HasSuffix(name, ".localhost") }

// Pass answers one request of a gateway, which the client names as its
// listener: a Passage, or why not. It is a pure function of its arguments and
// of the policy.
func (p *Policy) Pass(c Client, to Place) (Passage, *Refusal) {
	q := p.passing(c, to)
	for _, r := range passRules {
		if refusal := r.refuses(q); refusal != nil {
			refusal.Rule = r.name
			return Passage{}, refusal
		}
	}
	g := Passage{reason: TrustedPeer, to: to, own: p.own}
	if q.reach != nil {
		g.reach = *q.reach
	}
	switch {
	case q.identity != nil:
		g.reason, g.who = Authenticated, q.client.Identity
	case q.trusted != nil:
		g.who = q.trusted.name
	}
	return g, nil
}

func (p *Policy) passing(c Client, to Place) *passing {
	c.Addr = c.Addr.Unmap()
	q := &passing{p: p, client: c, to: to, gateway: p.gateways[c.Listener]}
	if q.gateway == nil {
		return q
	}
	if q.gateway.Login && c.Identity != "" {
		q.identity = p.identities[fold(c.Identity)]
	}
	if t, _ := p.trustedBy(c.Addr); t != nil && slices.ContainsFunc(q.gateway.Clients, func(a Allowed) bool { return a.Client == t.name }) {
		q.trusted = t
	}
	for i := range q.gateway.To {
		// What is named by itself says more than what is everywhere.
		if r := &q.gateway.To[i]; r.covers(to) && (q.reach == nil || q.reach.any) {
			q.reach = r
		}
	}
	return q
}

// own reports addresses of this machine.
func (p *Policy) own(a netip.Addr) bool {
	around := &p.source.Around
	return slices.Contains(around.Own, a) || slices.Contains(around.Bridges, a)
}

// gateways compiles them. One without a place or without anybody who may pass
// is refused: there is no such thing as a gateway for all, and one for nobody
// is a mistake.
func (b *compiler) gateways(s Source) {
	for i := range s.Gateways {
		g := &s.Gateways[i]
		if _, twice := b.p.listeners[g.Name]; twice || b.p.gateways[g.Name] != nil {
			b.stop(g.At, fmt.Sprintf("gateway %q has the name of another way in", g.Name), "give one of them another name")
			continue
		}
		if !g.Login && len(g.Clients) == 0 {
			b.stop(g.At, fmt.Sprintf("gateway %q would be for nobody, and one for everybody there is not", g.Name), `write login = true, or clients = ["scanner"]`)
		}
		for _, c := range g.Clients {
			if !slices.ContainsFunc(s.Trusted, func(t TrustedClient) bool { return t.Name == c.Client }) {
				b.stop(place(c.At, g.At), fmt.Sprintf("gateway %q lets %q pass, which is no trusted_client", g.Name, c.Client), "name one")
			}
		}
		if len(g.To) == 0 {
			b.stop(g.At, fmt.Sprintf("gateway %q leads nowhere", g.Name), `write to = ["mail.example.org:587"]`)
		}
		for _, r := range g.To {
			if r.any && r.port == smtpPort {
				b.stop(place(r.At, g.At), fmt.Sprintf("gateway %q leads to port 25 of every host: whoever gets one password has an open relay", g.Name), `name the mail servers, as "mail.example.org:25"`)
			}
		}
		b.p.gateways[g.Name] = g
	}
}
