package verdict

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/door"
	"postern/mail"
	"postern/plan"
)

// proof returns the arrival that proves the port open: that of the first form
// in the battery's order, so that the plainest explanation is given.
func (j *Judgement) proof() *Proof {
	for _, f := range j.Forms {
		if f.State != Arrived {
			continue
		}
		p := &Proof{FormResult: f, Egress: f.Arrival.Peer.Addr().Unmap(), EgressName: f.Arrival.PTR, Hops: f.Arrival.Hops()}
		if p.EgressName == "" && !j.proxied() { // through a proxy the name in EHLO is ours
			p.EgressName = f.Arrival.Helo
		}
		if len(p.Hops) > 0 {
			p.SeenFrom = p.Hops[0].IP
		}
		t := j.trail(p)
		p.Placing, p.Through = Place(t), t.Through
		p.note(j.Evidence)
		p.AllListed = append([]netip.Addr{p.Listed}, j.otherWays(p.Egress)...)
		if others := j.otherWays(p.Egress); len(others) > 0 {
			p.Notes = append(p.Notes, "other messages came from "+commas(others)+": put on blocklists too")
		}
		return p
	}
	return nil
}

// maxWays bounds how many addresses are named.
const maxWays = 5

// otherWays returns the addresses, beside that one, from which messages of
// this door came: some servers and proxies leave by several in turn.
func (j *Judgement) otherWays(egress netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, f := range j.Forms {
		if f.State != Arrived || len(list) == maxWays {
			continue
		}
		a := f.Arrival.Peer.Addr().Unmap()
		if a != egress && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func commas(list []netip.Addr) string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}

// trail gathers what the address rule asks for.
func (e Evidence) trail(p *Proof) Trail {
	t := Trail{
		Door: e.Door, Tested: e.Addr.Addr(), Us: e.From, Seen: p.SeenFrom, Egress: p.Egress,
		Claimed: claimed(p.Envelope.MoveArg, p.Form.Hole, p.SeenFrom),
		Names:   e.Names, EgressNames: []string{p.Arrival.PTR, p.Arrival.Helo},
		BannerAt: e.BannerAt, Certificate: e.Session.Certificate, Echo: e.Session.Echo(), Banner: e.Session.Name(), Greeter: e.Session.Greeter(),
		Through: p.Nonce != "" && p.Nonce == p.Arrival.Nonce,
	}
	for i, h := range p.Hops {
		if i == 0 {
			t.By = h.By
			continue
		}
		t.Handed = t.Handed || h.IP.IsValid() && h.IP == t.Tested.Unmap()
	}
	return t
}

// note says in words what the addresses tell besides the verdict.
func (p *Proof) note(e Evidence) {
	note := func(format string, args ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, args...)) }
	if p.Login != "" {
		note("the login that was taken: %s", p.Login)
	}
	x, t, r := e.Addr.Addr().Unmap(), e.From.Unmap(), p.SeenFrom
	if e.Door == door.SOCKS || e.Door == door.Connect {
		p.noteProxy(note, x)
		return
	}
	if p.Kind == KindForward && p.Lost {
		note("%s: it greets as %s, and the message was taken by %s, which saw us come from %s: a mail proxy that does not pass on its clients' addresses", sureWords[p.Sure], e.Session.Greeter(), p.Hops[0].By, r)
		note("it is the proxy at %s that is to be mended, and %s that will be put on blocklists", x, p.Where())
		return
	}
	switch {
	case p.Kind == KindForward && r == x:
		note("the first hop saw %s, not us: it took the stranger for its customer", r)
		note("it is %s that is to be mended, and %s that will be put on blocklists", x, p.Where())
		return
	case p.Kind == KindForward:
		note("%s, since no trace field shows that the first hop saw us come from %s: %s", sureWords[p.Sure], x, signsFor(p.Signs))
		note("it is %s that is to be mended, and %s that will be put on blocklists", x, p.Where())
		return
	case t.IsLoopback() && x.IsLoopback() && (r == t || !r.IsLoopback()): // in a lab every host is on loopback
		note("tested from the machine itself, which many servers trust: test once more from outside")
	case !r.IsValid():
		note("the first hop does not say where it saw us come from")
	case r == t:
	case claimed(p.Envelope.MoveArg, p.Form.Hole, r):
		note("the server believed the address that the form claimed, %s", r)
	case p.Lost:
		note("the server saw us come from %s, so it has lost its clients' addresses (container proxy, address translation or load balancer): mend the network, not the relay rules", r)
	default:
		note("the first hop saw us come from %s, not from %s: a translated address, or another machine took the message first", r, t)
	}
	if p.Egress != x {
		note("the message left through %s, so that address will be put on blocklists", p.Where())
	}
}

var sureWords = map[Sure]string{Certain: "certain", Likely: "likely, and not certain", Guess: "a guess"}

// noteProxy says which way the message took behind the proxy.
func (p *Proof) noteProxy(note func(string, ...any), x netip.Addr) {
	if p.Cascade {
		note("it came out at %s: the proxy hands strangers on to another machine, or leaves by another address, and that one will be put on blocklists", p.Where())
	}
	switch {
	case p.Through:
	case len(p.Hops) > 0 && p.Hops[0].By != "":
		note("the proxy led us to a mail server, %s, which took the message and sent it on", p.Hops[0].By)
	case p.Arrival.Seen == SeenByPeer && p.Nonce != "":
		note("the greeting that we read through the proxy was of another session than the one that brought the message: something between relays mail of its own accord")
	}
	if p.Form.Set == plan.Inside {
		note("the mail server there took %s for its own neighbour", x)
	}
}

// signsFor names the signs that speak for a forwarded port.
func signsFor(list []Sign) string {
	var texts []string
	for _, s := range list {
		if s.Weight > 0 {
			texts = append(texts, s.Text)
		}
	}
	return strings.Join(texts, "; ")
}

// claimed reports whether the form itself made the server believe address r.
func claimed(arg, hole string, r netip.Addr) bool {
	switch hole {
	case "proxy-trust", "xclient-trust":
		return arg == "" && r.IsLoopback() || strings.Contains(arg, r.String()) || r.IsLoopback()
	}
	return false
}

// Where returns the egress address and its name, if it has one.
func (p Proof) Where() string {
	if p.EgressName == "" {
		return p.Egress.String()
	}
	return fmt.Sprintf("%s (%s)", p.Egress, p.EgressName)
}

// Path returns the way of the message, one text for each station.
func (p Proof) Path() []string {
	path := make([]string, 0, len(p.Hops)+1)
	for _, h := range p.Hops {
		path = append(path, station(h))
	}
	return append(path, fmt.Sprintf("collector, from %s", p.Egress))
}

func station(h mail.Received) string {
	by := h.By
	if by == "" {
		by = "a server without a name"
	}
	if h.IP.IsValid() {
		return fmt.Sprintf("%s, from %s", by, h.IP)
	}
	return by
}
