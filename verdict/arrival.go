package verdict

import (
	"net/netip"
	"time"

	"postern/mail"
	"postern/plan"
)

// An ArrivalKind tells a message that came through from a notice about one
// that did not.
type ArrivalKind string

// The kinds of arrival.
const (
	Message ArrivalKind = "message" // the probe's own message
	Delay   ArrivalKind = "delay"   // a notice that it is late, or was handed on: nothing has come back
	Bounce  ArrivalKind = "bounce"  // a delivery status notice about it (RFC 3464), or an automatic answer
)

// Where the addresses of an Arrival come from.
const (
	SeenByPeer    = "peer"    // the collector itself saw the connection
	SeenByMailbox = "mailbox" // read from the Received fields of a mailbox that others keep
)

// An Arrival is one message that reached the collector. It holds no content
// beyond the header section.
type Arrival struct {
	Tokens      []plan.Token   `json:"tokens"` // verified; the one in the recipient first
	Kind        ArrivalKind    `json:"kind"`
	At          time.Time      `json:"at"`
	Peer        netip.AddrPort `json:"peer"`           // the egress address
	PTR         string         `json:"ptr,omitempty"`  // its name in the DNS, "" when unknown
	Helo        string         `json:"helo,omitempty"` // as the peer gave it
	TLS         string         `json:"tls,omitempty"`  // version and cipher suite, "" of plain text
	ReversePath string         `json:"reverse_path"`   // in its brackets
	ForwardPath string         `json:"forward_path"`   // as seen
	Header      string         `json:"header"`         // as received, at most 64 KiB
	BodyHash    string         `json:"body_sha256,omitempty"`
	Size        int64          `json:"size"`            // octets, header included
	Nonce       string         `json:"nonce,omitempty"` // in the banner of the session
	Seen        string         `json:"seen"`            // SeenByPeer or SeenByMailbox
}

// Fields returns the parsed header section.
func (a Arrival) Fields() mail.Header { return mail.ParseHeader([]byte(a.Header)) }

// Hops returns the trace fields, the first hop first: the last Received field
// of the header is the one that the tested server added when it took the
// message from the probe (RFC 5321 section 4.4).
func (a Arrival) Hops() []mail.Received {
	fields := a.Fields().All("Received")
	hops := make([]mail.Received, 0, len(fields))
	for i := len(fields) - 1; i >= 0; i-- {
		hops = append(hops, mail.ParseReceived(fields[i]))
	}
	return hops
}
