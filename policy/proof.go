package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// A Proof is what came of trying every input that the policy can tell apart:
// every listener, class of client addresses, use of TLS, identity, kind of
// reverse-path and kind of forward-path. It holds enough to be checked again
// by a program that shares no code with the policy.
type Proof struct {
	Policy     string            `json:"policy"`
	Listeners  []ProvedListener  `json:"listeners"`
	Classes    []ProvedClass     `json:"classes"`
	Identities []ProvedIdentity  `json:"identities"`
	Trusted    []ProvedIdentity  `json:"trusted"`
	Senders    []string          `json:"senders"`
	Recipients []ProvedRecipient `json:"recipients"`
	Overrides  []string          `json:"overrides,omitempty"` // what was acknowledged
	Decisions  int               `json:"decisions"`
	Refused    map[string]int    `json:"refused"` // by cause
	Granted    map[string]int    `json:"granted"` // by reason
	Strangers  int               `json:"strangers"`
	Rows       []ProvedRow       `json:"rows"` // where something is granted; all the rest is refused
	Gateways   []ProvedGateway   `json:"gateways,omitempty"`

	Counterexamples []Counterexample `json:"counterexamples,omitempty"`
}

// A ProvedListener is a listener of the proof.
type ProvedListener struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

// A ProvedClass is a class of the proof, and the address that stood for it.
type ProvedClass struct {
	First   netip.Addr `json:"first"`
	Last    netip.Addr `json:"last"`
	Witness netip.Addr `json:"witness"`
	Who     string     `json:"who"`
	Trusted string     `json:"trusted,omitempty"`
}

// A ProvedIdentity is somebody who may send, and what they may send as.
type ProvedIdentity struct {
	Name      string   `json:"name"`
	MaySendAs []string `json:"may_send_as"`
	MailOnly  bool     `json:"mail_only,omitempty"`
}

// A ProvedRecipient is a forward-path of the proof and what it is. Kind is
// "known" (a mailbox or alias of ours), "unknown" (no such mailbox of ours),
// "odd" (no plain address), "foreign", or "nowhere" (a foreign domain to which
// no mail can be sent).
type ProvedRecipient struct {
	Path string `json:"path"`
	Kind string `json:"kind"`
}

// A ProvedGateway is a gateway of the proof: how many requests were decided,
// and which led somewhere. Its places are those that the configuration names,
// and others that it must not lead to.
type ProvedGateway struct {
	Name      string          `json:"name"`
	Login     bool            `json:"login"`
	Clients   []string        `json:"clients,omitempty"`
	To        []string        `json:"to"`
	Places    []string        `json:"places"`
	Decisions int             `json:"decisions"`
	Passages  []ProvedPassage `json:"passages,omitempty"`
}

// A ProvedPassage says who is led where.
type ProvedPassage struct {
	Client   netip.Addr `json:"client"`
	Identity string     `json:"identity,omitempty"`
	Place    string     `json:"place"`
	Who      string     `json:"who"`
}

// A ProvedRow says for one client and reverse-path which recipients were
// granted: a 1 for each in the order of Recipients.
type ProvedRow struct {
	Listener  string     `json:"listener"`
	Client    netip.Addr `json:"client"`
	TLS       bool       `json:"tls"`
	Identity  string     `json:"identity,omitempty"`
	Suspended bool       `json:"suspended,omitempty"`
	Sender    string     `json:"sender"`
	Granted   string     `json:"granted"`
}

// A Counterexample is a decision that must not be.
type Counterexample struct {
	Client Client      `json:"client"`
	From   string      `json:"from"`
	To     string      `json:"to"`
	What   string      `json:"what"`
	At     problem.Pos `json:"at"`
	Reason string      `json:"reason,omitempty"`
}

// Error says the counterexample as a problem.
func (c Counterexample) Error() string { return c.Problem().Error() }

// Problem returns it as a problem of the configuration's line.
func (c Counterexample) Problem() error {
	what := fmt.Sprintf("%s: from %s on %q, MAIL FROM:%s RCPT TO:%s", c.What, c.Client.Addr, c.Client.Listener, c.From, c.To)
	return problem.At(c.At, what, "the policy would relay; this start is refused")
}

// Closed reports that no counterexample was found.
func (p *Proof) Closed() bool { return len(p.Counterexamples) == 0 }

// maxCounterexamples bounds how many are kept; one is enough to refuse a start.
const maxCounterexamples = 5

// Prove tries them all.
func (p *Policy) Prove() *Proof {
	v := &prover{p: p, proof: &Proof{Policy: p.Hash(), Refused: map[string]int{}, Granted: map[string]int{}}}
	v.world()
	v.widths()
	v.gateways()
	for _, l := range v.listeners {
		for _, class := range v.proof.Classes {
			if len(v.proof.Counterexamples) == maxCounterexamples {
				return v.proof // refused as it is; the rest would say no more
			}
			for _, tls := range []bool{false, true} {
				for _, id := range v.identities {
					v.client(Client{Listener: l.Name, Addr: class.Witness, TLS: tls, Identity: id}, l, class)
				}
			}
			if class.Trusted != "" {
				v.client(Client{Listener: l.Name, Addr: class.Witness, Suspended: true}, l, class)
			}
		}
	}
	return v.proof
}

// A prover holds the classes of every input.
type prover struct {
	p          *Policy
	proof      *Proof
	listeners  []ProvedListener
	identities []string
	senders    []mail.ReversePath
	recipients []kinded
}

// kinded is a forward-path and what it is, known by how it was made and not by
// asking the policy.
type kinded struct {
	to   mail.ForwardPath
	text string
	kind string
}

// ghost is a listener and a user that do not exist: nobody can write that name.
const ghost = "\x00"

func (v *prover) world() {
	s := v.p.source
	for _, l := range s.Listeners {
		v.proof.Listeners = append(v.proof.Listeners, ProvedListener{Name: l.Name, Role: l.Role.String()})
	}
	v.listeners = append(slices.Clone(v.proof.Listeners), ProvedListener{Name: ghost})
	for _, c := range v.p.Classes() {
		v.proof.Classes = append(v.proof.Classes, ProvedClass{First: c.First, Last: c.Last, Witness: inside(c), Who: c.Who, Trusted: c.Trusted})
	}
	v.people()
	v.proof.Senders = nil
	v.sendersOf(s)
	for _, from := range v.senders {
		v.proof.Senders = append(v.proof.Senders, from.String())
	}
	v.recipientsOf(s)
	for _, r := range v.recipients {
		v.proof.Recipients = append(v.proof.Recipients, ProvedRecipient{Path: r.text, Kind: r.kind})
	}
	for _, t := range s.Trusted {
		for _, a := range t.Acknowledged {
			v.proof.Overrides = append(v.proof.Overrides, fmt.Sprintf("%s: trusted client %q: %s", t.At, t.Name, a))
		}
	}
}

// people lists who may log in: each list of permitted senders once, with
// gateways and without, since two users with the same are the same to every rule.
func (v *prover) people() {
	v.identities = []string{"", ghost}
	seen := map[string]bool{}
	for _, u := range v.p.source.Users {
		list := texts(u.MaySendAs)
		if key := fmt.Sprint(u.MailOnly, strings.Join(list, "\x00")); !seen[key] {
			seen[key] = true
			v.identities = append(v.identities, u.Name)
			v.proof.Identities = append(v.proof.Identities, ProvedIdentity{Name: u.Name, MaySendAs: list, MailOnly: u.MailOnly})
		}
	}
	for _, t := range v.p.source.Trusted {
		v.proof.Trusted = append(v.proof.Trusted, ProvedIdentity{Name: t.Name, MaySendAs: texts(t.MaySendAs)})
	}
}

func texts(list []Senders) []string {
	all := make([]string, 0, len(list))
	for _, s := range list {
		all = append(all, s.String())
	}
	return all
}

// widths holds the trusted classes against what any reader can count: no
// public network of more than a few addresses, and no gateway.
func (v *prover) widths() {
	public := 0.0
	for _, c := range v.p.Classes() {
		if c.Trusted == "" {
			continue
		}
		if !isPrivate(c.First) || !isPrivate(c.Last) {
			public += size(c)
		}
		for _, a := range slices.Concat(v.p.source.Around.Gateways, v.p.source.Around.Bridges) {
			if c.Contains(a) && !v.acknowledged(a) {
				v.counter(Counterexample{Client: Client{Addr: a}, What: "the road that everybody arrives by is trusted", At: c.At})
			}
		}
		if why := neverClient(netip.PrefixFrom(c.First, c.First.BitLen())); why != "" {
			v.counter(Counterexample{Client: Client{Addr: c.First}, What: "a trusted network " + why, At: c.At})
		}
	}
	if public > mostPublic {
		v.counter(Counterexample{What: fmt.Sprintf("%.0f public addresses are trusted, so strangers are", public), At: v.p.source.Trusted[0].At})
	}
}

func (v *prover) acknowledged(a netip.Addr) bool {
	return slices.ContainsFunc(v.p.source.Trusted, func(t TrustedClient) bool {
		return slices.Contains(t.Acknowledged, netip.PrefixFrom(a, a.BitLen()))
	})
}

func isPrivate(a netip.Addr) bool { return a.IsPrivate() || a.IsLoopback() }

// size counts the addresses of a class; an IPv6 /56 is one.
func size(c Class) float64 {
	var n float64
	first, end := c.First.AsSlice(), c.Last.AsSlice()
	if c.First.Is6() {
		first, end = first[:7], end[:7]
	}
	for i := range first {
		n = n*256 + float64(end[i]) - float64(first[i])
	}
	return n + 1
}

func (v *prover) counter(c Counterexample) {
	if len(v.proof.Counterexamples) < maxCounterexamples {
		v.proof.Counterexamples = append(v.proof.Counterexamples, c)
	}
}

// client asks for every reverse-path and forward-path of one client.
func (v *prover) client(c Client, l ProvedListener, class ProvedClass) {
	row := make([]byte, len(v.recipients))
	for _, from := range v.senders {
		granted := false
		may := v.mayOpen(c, l, class, from)
		for i, r := range v.recipients {
			g, refusal := v.p.Decide(c, from, r.to)
			row[i] = '0'
			v.proof.Decisions++
			if !g.IsZero() {
				row[i], granted = '1', true
				v.proof.Granted[g.reason.String()]++
			}
			if refusal != nil {
				v.proof.Refused[string(refusal.Cause)]++
			}
			if c.Identity == "" && class.Trusted == "" {
				v.proof.Strangers++
			}
			v.judge(c, l, from, r, g, refusal, may)
		}
		if granted {
			v.proof.Rows = append(v.proof.Rows, ProvedRow{
				Listener: c.Listener, Client: c.Addr, TLS: c.TLS, Identity: c.Identity, Suspended: c.Suspended,
				Sender: from.String(), Granted: string(row),
			})
		}
	}
}

// mayOpen is the plain statement of who may use a listener at all.
func (v *prover) mayOpen(c Client, l ProvedListener, class ProvedClass, from mail.ReversePath) bool {
	switch l.Role {
	case "mx":
		return true
	case "submission", "submissions":
		return c.TLS && v.listed(v.proof.Identities, c.Identity, from)
	case "trusted":
		return class.Trusted != "" && !c.Suspended && v.listed(v.proof.Trusted, class.Trusted, from)
	}
	return false
}

// listed reports whether somebody of that name lists the reverse-path, read
// from the words of the configuration.
func (v *prover) listed(people []ProvedIdentity, name string, from mail.ReversePath) bool {
	address := from.Address().String()
	for _, p := range people {
		if p.Name != name {
			continue
		}
		for _, word := range p.MaySendAs {
			_, wanted, whole := strings.Cut(word, "*@")
			_, has, _ := cutLast(address)
			switch {
			case from.Null():
				if word == "<>" {
					return true
				}
			case word == "*", strings.EqualFold(word, address), whole && strings.EqualFold(wanted, has):
				return true
			}
		}
	}
	return false
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// judge holds one decision against what may be.
func (v *prover) judge(c Client, l ProvedListener, from mail.ReversePath, r kinded, g Grant, refusal *Refusal, open bool) {
	may := open && (r.kind == "known" || r.kind == "foreign" && l.Role != "mx")
	x := Counterexample{Client: c, At: g.origin, Reason: g.reason.String()}
	switch {
	case g.IsZero() == (refusal == nil):
		x.What = "neither granted nor refused, or both"
	case !g.IsZero() && !may && c.Identity == "" && l.Role == "mx":
		x.What = "a stranger's mail would be relayed"
	case !g.IsZero() && !may:
		x.What = "granted to who may not have it"
	case g.IsZero() && may:
		x.What, x.At = "refused to who may have it ("+string(refusal.Cause)+")", refusal.At
	case !g.IsZero() && len(g.goes) == 0:
		x.What = "granted, and leads nowhere"
	case !g.IsZero() && l.Role == "mx" && v.leavesFor(g):
		x.What = "a stranger's mail would be relayed through an alias in its own name"
	case !g.IsZero() && from.Null() && slices.ContainsFunc(g.goes, func(d Destination) bool { return !d.From.IsZero() }):
		x.What = "a notice would be forwarded with a sender, to whom another could be sent"
	default:
		return
	}
	x.From, x.To = from.String(), r.text
	v.counter(x)
}

// leavesFor reports whether a grant leads outside with the sender as given,
// which is the null reverse-path of a notice alone.
func (v *prover) leavesFor(g Grant) bool {
	return !g.from.Null() && slices.ContainsFunc(g.goes, func(d Destination) bool {
		return d.From.IsZero() && !v.ours(d.To.Domain())
	})
}

func (v *prover) ours(d mail.Domain) bool {
	return d.Equal(v.p.source.Hostname) || slices.ContainsFunc(v.p.source.Domains, func(o Domain) bool { return o.Name.Equal(d) })
}

// Summary is the proof in one line.
func (p *Proof) Summary() string {
	var granted []string
	for _, r := range Reasons() {
		granted = append(granted, fmt.Sprintf("%s %d", r, p.Granted[r.String()]))
	}
	slices.SortFunc(granted, cmp.Compare)
	return fmt.Sprintf("%d listeners, %d classes of addresses, %d decisions; granted: %s", len(p.Listeners), len(p.Classes), p.Decisions, strings.Join(granted, ", "))
}
