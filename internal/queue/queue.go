// Package queue keeps what we answered 250 to.
//
// The invariant: a message enters only with a grant for each recipient, and
// once Put has returned nil it is on stable storage and stays until every
// recipient was settled or an operator deleted it. What is stored of a grant
// is a record, decided again before the message leaves.
package queue

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"postern/mail"
	"postern/policy"
)

// A Letter is what Put takes beside the body: an envelope whose recipients
// were each granted.
type Letter struct {
	ID     string // of NewID; names the message from its connection to its end
	From   mail.ReversePath
	Params mail.SenderParams
	To     []Accepted // one at least
	Origin Origin
	Hold   string // why it must wait for the operator; "": it may leave
}

// An Accepted recipient is one with its grant.
type Accepted struct {
	Grant  policy.Grant
	Params mail.RecipientParams
}

// An Origin is where a message came from, as it can be shown later.
type Origin struct {
	Session  string // the first id of the connection
	Listener string
	Peer     netip.Addr
	Helo     string
	Identity string // who logged in, or the trusted client's name
	TLS      string // "TLS 1.3 TLS_AES_128_GCM_SHA256"; "" without
	At       time.Time
}

// An Intake is the one way into a queue.
type Intake interface {
	// Put stores a message and returns its size in octets after it is on
	// stable storage. The body is read to its end; an error of the reader is
	// returned as it is, and nothing is stored.
	Put(ctx context.Context, l Letter, body io.Reader) (size int64, err error)
	// Room says why a message of that many octets could not be stored now,
	// before it is sent: ErrFull, ErrBroken or nil. 0 asks for any message.
	Room(size int64) error
}

// Errors of an Intake.
var (
	ErrFull     = errors.New("no room to store mail safely")          // answered 452 4.3.1
	ErrBroken   = errors.New("the queue's store failed")              // answered 451 4.3.0
	ErrNoGrant  = errors.New("a recipient without a grant")           // a fault of ours
	ErrTooLarge = errors.New("larger than a message may be")          // answered 552 5.3.4
	ErrNoSuchID = errors.New("no message of that id is in the queue") // gone or never there
)
