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
	"time"

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
	// Spare says the same of a stranger's message: it is refused while there is
	// room left for our own people, who must not pay for what strangers send.
	Spare(size int64) error
}

// A Supply gives out what is due to whoever delivers. Time comes in as a
// value; a lease has an owner and an end, so that what a dead owner held is
// given out again.
type Supply interface {
	// Lease gives out at most a.Max leases, fairly: one destination after the
	// other, in each the oldest first within its lane. Leases that have ended by
	// a.Now are taken back first. None is due: an empty list and no error.
	Lease(ctx context.Context, a Ask) ([]Lease, error)
	// Settle says what became of deliveries of a lease, and ends it; those that
	// are not named become due as they were. It returns how many deliveries of
	// the message, in any destination, are not settled for good: after 0 the
	// message is gone. ErrLeaseLost says that the lease had ended and somebody
	// else may hold it; nothing is changed then.
	Settle(ctx context.Context, l Lease, outcomes ...Outcome) (left int, err error)
	// Extend moves the end of a lease.
	Extend(ctx context.Context, l Lease, until time.Time) error
	// Return ends a lease without an attempt: its deliveries are due as before.
	Return(ctx context.Context, l Lease) error
	// Next returns when Lease would next give out anything; a time that has
	// passed says now. Destinations in except are not counted. false: never,
	// until Changed.
	Next(ctx context.Context, except []string) (at time.Time, ok bool, err error)
	// Shift follows a clock that was set by so much: all that waits is as old as
	// it was, waits as long as it would have, and is leased to whom it was. What
	// then still happened after now, or would wait for longer than longest, was
	// written by a clock that was wrong, and is due. It returns how many messages
	// were changed; by is 0 of a clock of which nobody knows.
	Shift(ctx context.Context, now time.Time, by, longest time.Duration) (int, error)
	// Changed receives a value, one for any number of changes, after something
	// became due sooner than Next may have said. It has one reader.
	Changed() <-chan struct{}
}

// A Desk is what an operator does with a queue. Methods that take ids pass
// over those that are not in the queue, and return how many were found.
type Desk interface {
	// List returns messages in the order of their ids, which is that of their
	// age. It never reads a body.
	List(ctx context.Context, f Filter, p Page) (list []Message, next string, err error)
	// Show returns one message.
	Show(ctx context.Context, id string) (Message, error)
	// Open returns the body of a message; the caller closes it. Its end is an
	// error if what was read is not what was stored.
	Open(ctx context.Context, id string) (io.ReadCloser, error)
	// Hold keeps messages from being leased until they are released. Leases
	// that are out are not called back.
	Hold(ctx context.Context, why string, ids ...string) (int, error)
	// Release lets held messages and held deliveries go, at once.
	Release(ctx context.Context, ids ...string) (int, error)
	// Retry makes all that waits due at once.
	Retry(ctx context.Context, ids ...string) (int, error)
	// Change changes what may be changed of a message that waits.
	Change(ctx context.Context, c Change, ids ...string) (int, error)
	// Delete removes messages with their bodies; nobody is told.
	Delete(ctx context.Context, ids ...string) (int, error)
	// Expire removes messages that nobody decided about for so long, and says so
	// in their history.
	Expire(ctx context.Context, why string, ids ...string) (int, error)
	// Stats returns sums over the queue.
	Stats(ctx context.Context) (Stats, error)
	// Destinations returns each destination for which anything is kept, that
	// with most messages first.
	Destinations(ctx context.Context) ([]Destination, error)
}

// A Queue keeps messages. All methods are safe for concurrent use, and by
// several nodes if the engine says so.
type Queue interface {
	Intake
	Supply
	Desk
	History
	io.Closer
}

// Errors of a queue. Each that a client can meet carries the reply that it
// gets.
var (
	ErrFull      error = &replied{"no room to store mail safely", mail.NewReply(452, "4.3.1", "No room to store mail safely; we will be back")}
	ErrBroken    error = &replied{"the queue's store failed", mail.NewReply(451, "4.3.0", "Could not store your message safely, so we did not accept it")}
	ErrTooLarge  error = &replied{"larger than a message may be", mail.NewReply(552, "5.3.4", "Message is larger than this server takes; share a link instead")}
	ErrNoGrant         = errors.New("a recipient without a grant") // a fault of ours
	ErrTwice           = errors.New("a message of that id is in the queue already")
	ErrLeaseLost       = errors.New("the lease has ended")
	ErrNoSuchID        = errors.New("no message of that id is in the queue") // gone or never there
)

type replied struct {
	text  string
	reply mail.Reply
}

func (e *replied) Error() string { return e.text }

// Reply returns what the client is told.
func (e *replied) Reply() mail.Reply { return e.reply }
