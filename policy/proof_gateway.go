package policy

import (
	"net/netip"
	"slices"
	"sync"
)

// elsewhere are places that no gateway leads to unless its line names them:
// this machine, its neighbours, what clouds tell their machines, and the mail
// servers of everybody else; besides an address of each special network.
var elsewhere = sync.OnceValue(func() []string {
	list := []string{
		"127.0.0.1:25", "[::1]:25", "10.0.0.1:25", "192.168.0.1:443", "169.254.169.254:80", "[fd00::1]:587", "[::ffff:127.0.0.1]:25",
		"[64:ff9b::7f00:1]:25", "localhost:443", "mail.elsewhere.example:25", "198.51.100.25:25", "[2001:db8:ffff::25]:25", "www.elsewhere.example:443",
	}
	for _, s := range specials() {
		if a := s.network.Addr().Next(); s.inside != "" && s.network.Bits() < a.BitLen() {
			list = append(list, netip.AddrPortFrom(a, 80).String())
		}
	}
	return list
})

// gateways tries every class of clients, with every identity and none, at
// every kind of place.
func (v *prover) gateways() {
	for i := range v.p.source.Gateways {
		g := &v.p.source.Gateways[i]
		proved := ProvedGateway{Name: g.Name, Login: g.Login}
		for _, c := range g.Clients {
			proved.Clients = append(proved.Clients, c.Client)
		}
		places := placesOf(g)
		for _, r := range g.To {
			proved.To = append(proved.To, r.String())
		}
		for _, p := range places {
			proved.Places = append(proved.Places, p.String())
		}
		for _, class := range v.proof.Classes {
			for _, id := range v.identities {
				for _, suspended := range []bool{false, true} {
					c := Client{Listener: g.Name, Addr: class.Witness, TLS: true, Identity: id, Suspended: suspended}
					for _, to := range places {
						proved.Decisions++
						v.passage(g, &proved, c, class, to)
					}
				}
			}
		}
		v.proof.Gateways = append(v.proof.Gateways, proved)
	}
}

// passage decides one request and holds the answer against what must be.
func (v *prover) passage(g *Gateway, proved *ProvedGateway, c Client, class ProvedClass, to Place) {
	passage, refusal := v.p.Pass(c, to)
	if refusal != nil {
		return
	}
	breach := func(what string) {
		if len(v.proof.Counterexamples) < maxCounterexamples {
			v.proof.Counterexamples = append(v.proof.Counterexamples, Counterexample{Client: c, To: to.String(), What: what, At: g.At, Reason: passage.reason.String()})
		}
	}
	// What follows asks the source and not what Pass was told by.
	user := g.Login && slices.ContainsFunc(v.p.source.Users, func(u User) bool { return fold(u.Name) == fold(c.Identity) && !u.MailOnly })
	client := class.Trusted != "" && !c.Suspended && slices.ContainsFunc(g.Clients, func(a Allowed) bool { return a.Client == class.Trusted })
	named := slices.ContainsFunc(g.To, func(r Reach) bool { return !r.any && r.port == to.Port && r.name == to.Name && r.addr == to.Addr })
	any := slices.ContainsFunc(g.To, func(r Reach) bool { return r.any && r.port == to.Port })
	switch {
	case passage.IsZero():
		breach("a passage that is none")
	case !user && !client:
		breach("a stranger is led through a gateway")
	case !named && !any:
		breach("a gateway leads to a place that its line does not name")
	case !named && to.Port == smtpPort:
		breach("a gateway leads to port 25 of a host that its line does not name")
	case !named && to.Addr.IsValid() && Inside(to.Addr, v.p.own) != "":
		breach("a gateway leads inside")
	case passage.Closes(netip.AddrFrom4([4]byte{127, 0, 0, 1})) == "" && to.Addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		breach("a gateway leads to this machine by a name")
	default:
		if !slices.ContainsFunc(proved.Passages, func(p ProvedPassage) bool {
			return p.Client == c.Addr && p.Identity == c.Identity && p.Place == to.String()
		}) {
			proved.Passages = append(proved.Passages, ProvedPassage{Client: c.Addr, Identity: c.Identity, Place: to.String(), Who: passage.who})
		}
	}
}

// placesOf returns what the gateway's line names, its neighbours in port and
// name, and elsewhere.
func placesOf(g *Gateway) []Place {
	var list []Place
	add := func(p Place) {
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	for _, r := range g.To {
		p := Place{Name: r.name, Addr: r.addr, Port: r.port}
		if r.any {
			p.Name = "any.elsewhere.example"
		}
		add(p)
		p.Port++
		add(p)
		p.Port = smtpPort
		add(p)
		if p.Name != "" {
			p.Name, p.Port = "not-"+p.Name, r.port
			add(p)
		}
		for _, s := range elsewhere() { // on this port too
			if e, err := ParseReach(s); err == nil {
				add(Place{Name: e.name, Addr: e.addr, Port: r.port})
			}
		}
	}
	for _, s := range elsewhere() {
		if e, err := ParseReach(s); err == nil {
			add(Place{Name: e.name, Addr: e.addr, Port: e.port})
		}
	}
	return list
}
