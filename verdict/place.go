package verdict

import (
	"net/netip"
	"strings"

	"postern/door"
)

// A Trail is what is known of the way of one message: the addresses of the
// rule, and what else may tell when trace fields are missing or rewritten.
type Trail struct {
	Door    door.Door  // at which we knocked
	Tested  netip.Addr // X
	Us      netip.Addr // T, as our own socket has it
	Seen    netip.Addr // R, our address in the first trace field; invalid when none tells
	By      string     // B, who wrote that field
	Handed  bool       // a later trace field names X as the one that handed the message on
	Egress  netip.Addr // E, who brought it to the collector
	Claimed bool       // the form itself made the server believe R

	Names       []string     // of X: as it was given, and in the DNS
	EgressNames []string     // of E: in the DNS, and in its EHLO
	Banner      string       // the name with which X greets
	Greeter     string       // the same, where it may be a name without a domain
	BannerAt    []netip.Addr // where that name leads in the DNS
	Echo        netip.Addr   // our address in the answer to EHLO
	Certificate []string     // names in X's certificate

	Through bool // at a proxy: the arrival is of the session whose banner we read
}

// Sure says how much a Placing rests on.
type Sure string

// The degrees. Certain is what an address itself tells; Likely has signs that
// agree; a Guess has hardly any.
const (
	Certain Sure = "certain"
	Likely  Sure = "likely"
	Guess   Sure = "guess"
)

// A Sign is one thing that speaks for a forwarded port, or with a weight
// below nothing against it.
type Sign struct {
	Name   string
	Weight int
	Text   string
}

// A Placing says which machine lets strangers' mail out, and which pays for it.
type Placing struct {
	Kind      Kind
	Guilty    netip.Addr // the machine that is to be mended
	Listed    netip.Addr // the address that will be put on blocklists
	Sure      Sure
	Signs     []Sign
	Lost      bool // the server has lost its clients' addresses
	Smarthost bool // the server relays, and its mail leaves by another machine
	Cascade   bool // the proxy handed us on to another one
}

// Weights of the signs. What is enough for "forwarded" cannot come of one
// that may be chance, such as the name of a certificate.
const (
	forwardEnough = 4
	forwardLikely = 6
)

// Place applies the address rule. It never says that a port is forwarded
// where the message came out at the tested address itself.
func Place(t Trail) Placing {
	t = t.clean()
	p := Placing{Kind: KindSMTP, Guilty: t.Tested, Listed: t.Egress, Sure: Certain}
	switch t.Door {
	case door.SOCKS, door.Connect:
		return t.proxy(p)
	case door.SMTP, door.Forward:
	}
	away := t.Egress.IsValid() && t.Egress != t.Tested
	switch {
	case t.seenUs(), t.Claimed:
		// The first server saw us as we are, or as we pretended to be: it is
		// the tested one, or stands so before it that nothing else shows.
		p.Smarthost = away
		if away && !t.Handed || !t.Claimed && t.Seen != t.Us {
			p.Sure = Likely
		}
		return p
	case !away:
		p.Lost = t.lost()
		if t.mailProxy() {
			p.Kind, p.Sure = KindForward, Likely
		}
		if !t.Seen.IsValid() {
			p.Sure = Likely // E = X is its own word; whether a client address was lost is not known
		}
		return p
	}
	return t.weigh(p)
}

// seenUs reports whether the first server saw us: by the address that our
// socket has, or where that is one of our own network's, by one that may be
// what our network has outside.
func (t Trail) seenUs() bool {
	r := t.Seen
	return r.IsValid() && (r == t.Us || neighbourly(t.Us) && !neighbourly(r) && r != t.Tested && r != t.Egress)
}

// proxy places what left through a tunnel: no server wrote a trace field
// there, and the collector's own banner names the session.
func (t Trail) proxy(p Placing) Placing {
	p.Kind = KindSOCKS
	if t.Door == door.Connect {
		p.Kind = KindConnect
	}
	p.Cascade = t.Egress.IsValid() && t.Egress != t.Tested
	if !t.Through {
		p.Sure = Likely // a mail server behind the proxy took the message and sent it on
	}
	return p
}

// weigh decides between a forwarded port and a server that relays through
// another, where the message came out at another address than the tested one.
func (t Trail) weigh(p Placing) Placing {
	score := 0
	for _, s := range t.signs() {
		p.Signs = append(p.Signs, s)
		score += s.Weight
	}
	p.Lost = t.mailProxy()
	if score >= forwardEnough || p.Lost {
		p.Kind = KindForward
		p.Sure = Guess
		switch {
		case t.Seen == t.Tested && score >= forwardLikely:
			p.Sure = Certain
		case score >= forwardLikely:
			p.Sure = Likely
		}
		return p
	}
	p.Smarthost, p.Lost, p.Sure = true, t.lost(), Guess
	if t.Handed || score <= -forwardEnough {
		p.Sure = Likely
	}
	return p
}

// lost reports whether the server saw us as one of its own neighbours, or as
// itself: something before it hides its clients' addresses.
func (t Trail) lost() bool {
	r := t.Seen
	return r.IsValid() && r != t.Us && !t.Claimed && (r == t.Tested || neighbourly(r))
}

// mailProxy reports whether a mail proxy answers at the tested address, and
// hides its clients from the server to which it leads.
func (t Trail) mailProxy() bool {
	return t.lost() && t.another() && !t.Handed && !named(t.By, t.Names)
}

// another reports whether the one that greets is not the one that took the
// message: a mail proxy speaks SMTP itself and leads to another server, so that
// whatever it shows of itself tells nothing of that one.
func (t Trail) another() bool {
	by, greeter := strings.ToLower(strings.TrimSuffix(t.By, ".")), strings.ToLower(strings.TrimSuffix(t.Greeter, "."))
	if by == "" || greeter == "" || by == greeter || strings.ContainsAny(by, "[:") {
		return false
	}
	if _, err := netip.ParseAddr(by); err == nil {
		return false // a server that writes its address there may have a name all the same
	}
	// A host may leave out its domain in one place and not in the other.
	return !strings.HasPrefix(by, greeter+".") && !strings.HasPrefix(greeter, by+".")
}

// neighbourly reports whether an address says nothing about where in the
// world its client is.
func neighbourly(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

// sharedSpace is that of carriers' address translation (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// signs lists what speaks for a forwarded port and what against it.
func (t Trail) signs() []Sign {
	var list []Sign
	add := func(is bool, s Sign) {
		if is {
			list = append(list, s)
		}
	}
	r := t.Seen
	another := t.another() // then what it shows of itself speaks for no server that relays
	add(t.mailProxy(), Sign{"greeter-is-another", 4, "it greets as " + t.Greeter + ", and the message was taken by " + t.By})
	add(r.IsValid() && r == t.Tested, Sign{"seen-as-target", 6, "the first hop saw the tested address where it should have seen us"})
	add(r.IsValid() && r != t.Tested && neighbourly(r), Sign{"seen-as-neighbour", -2, "the first hop saw a private address, as behind a container proxy or address translation"})
	add(t.Handed, Sign{"handed-on", -6, "a later hop took the message from the tested address, so a server there had it"})
	add(t.Echo.IsValid() && t.Echo == t.Tested, Sign{"echo-target", 5, "the answer to EHLO greets the tested address, not ours"})
	add(!another && t.Echo.IsValid() && t.Echo == t.Us, Sign{"echo-us", -5, "the answer to EHLO greets our address"})
	leads := len(t.BannerAt) > 0
	add(leads && !has(t.BannerAt, t.Tested) && has(t.BannerAt, t.Egress), Sign{"banner-leads-to-egress", 4, "the name in its greeting leads to the address at which the message came out"})
	add(leads && !has(t.BannerAt, t.Tested) && !has(t.BannerAt, t.Egress), Sign{"banner-elsewhere", 2, "the name in its greeting leads to other addresses"})
	add(!another && has(t.BannerAt, t.Tested), Sign{"banner-leads-here", -3, "the name in its greeting leads to the tested address"})
	add(named(t.Banner, t.EgressNames), Sign{"banner-is-egress", 3, "it greets with the name of the machine from which the message came"})
	add(!another && named(t.Banner, t.Names), Sign{"banner-is-target", -2, "it greets with a name of the tested address"})
	add(named(t.By, t.EgressNames) && !named(t.By, t.Names), Sign{"by-egress", 2, "the first hop has the name of the machine from which the message came"})
	add(named(t.By, t.Names), Sign{"by-target", -3, "the first hop has a name of the tested address"})
	ofEgress, ofTarget := false, false
	for _, name := range t.Certificate {
		ofEgress, ofTarget = ofEgress || named(name, t.EgressNames), ofTarget || named(name, t.Names)
	}
	add(ofEgress && !ofTarget, Sign{"certificate-of-egress", 2, "its certificate names the machine from which the message came"})
	add(!another && ofTarget && !ofEgress, Sign{"certificate-of-target", -2, "its certificate names the tested address's own name"})
	return list
}

func has(list []netip.Addr, a netip.Addr) bool {
	for _, b := range list {
		if a.IsValid() && a == b {
			return true
		}
	}
	return false
}

func named(name string, list []string) bool {
	for _, other := range list {
		if name != "" && strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(other, ".")) {
			return true
		}
	}
	return false
}

// clean brings all addresses into one spelling.
func (t Trail) clean() Trail {
	for _, a := range []*netip.Addr{&t.Tested, &t.Us, &t.Seen, &t.Egress, &t.Echo} {
		*a = a.Unmap().WithZone("")
	}
	at := make([]netip.Addr, 0, len(t.BannerAt))
	for _, a := range t.BannerAt {
		at = append(at, a.Unmap().WithZone(""))
	}
	t.BannerAt = at
	return t
}
