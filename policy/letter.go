package policy

import (
	"net/netip"
	"time"

	"postern/mail"
)

// A Letter is an envelope whose recipients were each granted: the only thing
// that a queue takes.
type Letter struct {
	ID     string // names the message from its connection to its end
	From   mail.ReversePath
	Params mail.SenderParams
	To     []Accepted // one at least
	Origin Origin
	Hold   string // why it must wait for the operator; "": it may leave
	Name   string // its Message-ID, with the angle brackets; "": it has none
	Bulk   bool   // one of many: it lets go first what people send singly
}

// An Accepted recipient is one with its grant.
type Accepted struct {
	Grant  Grant
	Params mail.RecipientParams
}

// An Origin is where a message came from, as it can be shown later.
type Origin struct {
	Session  string // the id of the connection
	Listener string
	Peer     netip.Addr
	Helo     string
	Identity string // who logged in, or the trusted client's name
	TLS      string // "TLS 1.3 TLS_AES_128_GCM_SHA256"; "" without
	At       time.Time
}
