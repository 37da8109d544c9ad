package verdict

import (
	"net/netip"
	"time"

	"postern/mail"
)

// A Verdict is the answer to "does it relay for strangers?".
type Verdict string

// The verdicts. Their order, worst first, is that of Worse.
const (
	Open         Verdict = "open"         // proved: a message arrived
	Accepts      Verdict = "accepts"      // took a message, nothing arrived in time
	Inconclusive Verdict = "inconclusive" // could not be told; Judgement.Why says why
	Closed       Verdict = "closed"       // every form was refused, or provably went nowhere
	NotTested    Verdict = "not_tested"   // there was nothing to test
)

var severity = map[Verdict]int{Open: 4, Accepts: 3, Inconclusive: 2, Closed: 1, NotTested: 0}

// Worse reports whether v is a worse answer than o.
func (v Verdict) Worse(o Verdict) bool { return severity[v] > severity[o] }

// A State is what became of one form.
type State string

// The states of a form.
const (
	Arrived  State = "arrived"  // its message reached the collector
	Accepted State = "accepted" // taken; nothing came out so far
	Bounced  State = "bounced"  // taken, then returned to the sender: it went nowhere
	Local    State = "local"    // taken for a mailbox of the server's own
	Refused  State = "refused"
	Untested State = "untested"
	Noted    State = "noted" // granted, and proves nothing about mail: of the set info
)

// A FormResult is the state of one form and why it is so.
type FormResult struct {
	Exchange
	State   State
	Reason  string   // of Untested and Local
	Arrival *Arrival // of Arrived and Bounced
}

// A Kind is the way by which strangers' mail leaves.
type Kind string

// The kinds of open relay.
const (
	KindSMTP    Kind = "smtp"    // the server itself relays
	KindSOCKS   Kind = "socks"   // a SOCKS proxy that reaches port 25
	KindForward Kind = "forward" // the port is forwarded to a server that trusts the forwarder
	KindConnect Kind = "connect" // a web proxy that reaches port 25
)

// A Proof is the message that arrived.
type Proof struct {
	FormResult
	Placing
	Egress     netip.Addr   // E: from where it reached the collector
	EgressName string       // its name in the DNS or, failing that, its EHLO name
	SeenFrom   netip.Addr   // R: our address as the first hop saw it; invalid when no field tells
	AllListed  []netip.Addr // every address that will be put on blocklists: that of this message, and those of others
	Hops       []mail.Received
	Through    bool     // at a proxy: the collector got it in the session whose banner we read
	Notes      []string // what the addresses tell besides
}

// A Judgement is a verdict on one port with all that it rests on.
type Judgement struct {
	Evidence
	Verdict     Verdict
	Why         string // one sentence
	Do          string // what helps when the verdict is not closed; "" otherwise
	Sure        Sure   // of Closed: what it rests on
	Forms       []FormResult
	Proof       *Proof
	Backscatter *Arrival    // a notice to a forged sender, the exhibit; nil when there was none
	Elsewhere   *FormResult // the form by which a proxy that shuts port 25 serves strangers all the same; nil when none did
	CatchAll    bool        // an unknown recipient of the server's own domain was accepted
	Tested      float64     // share of the forms that apply and were really decided, 0 to 1
	Battery     Battery     // how many forms that are
	Needs       []string    // what is missing for the forms that do not apply yet
}

// Count returns how many forms are in the state.
func (j Judgement) Count(s State) int {
	n := 0
	for _, f := range j.Forms {
		if f.State == s {
			n++
		}
	}
	return n
}

// AcceptedAt returns when the proof's message was taken.
func (p Proof) AcceptedAt() time.Time { return p.At }
