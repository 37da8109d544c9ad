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

	"postern/mail"
	"postern/policy"
)

// What Put takes is made of grants, so its words stand in package policy.
type (
	Letter   = policy.Letter
	Accepted = policy.Accepted
	Origin   = policy.Origin
)

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

// Errors of an Intake. Each that a client can meet carries the reply that it
// gets.
var (
	ErrFull     error = &replied{"no room to store mail safely", mail.NewReply(452, "4.3.1", "No room to store mail safely; we will be back")}
	ErrBroken   error = &replied{"the queue's store failed", mail.NewReply(451, "4.3.0", "Could not store your message safely, so we did not accept it")}
	ErrTooLarge error = &replied{"larger than a message may be", mail.NewReply(552, "5.3.4", "Message is larger than this server takes; share a link instead")}
	ErrNoGrant        = errors.New("a recipient without a grant")           // a fault of ours
	ErrNoSuchID       = errors.New("no message of that id is in the queue") // gone or never there
)

type replied struct {
	text  string
	reply mail.Reply
}

func (e *replied) Error() string { return e.text }

// Reply returns what the client is told.
func (e *replied) Reply() mail.Reply { return e.reply }
