package smtp

import (
	"errors"
	"fmt"

	"postern/mail"
)

// The kinds of a failure on the wire; test with errors.Is.
var (
	ErrClosed      = errors.New("connection closed by peer")
	ErrTimeout     = errors.New("no answer in time")
	ErrNotSMTP     = errors.New("not an SMTP reply")
	ErrLineTooLong = errors.New("line too long")
	ErrTruncated   = errors.New("message cut off before its end")
	ErrBareLine    = errors.New("line ends in a bare CR or LF")
	ErrTooLarge    = errors.New("message too large")
	ErrReset       = errors.New("message given up by the client")
)

// What a client cannot do on this connection.
var (
	ErrNotOffered = errors.New("the server does not offer what this message needs")
	ErrTooMany    = errors.New("more recipients than the server takes at once")
	ErrNoTLS      = errors.New("no login without TLS")
)

// A ReplyError is a reply that was not the one hoped for.
type ReplyError struct {
	Doing string // "banner", "EHLO", "AUTH", ...
	Reply mail.Reply
}

func (e *ReplyError) Error() string { return e.Doing + ": " + e.Reply.String() }

// A WireError says what failed while doing what.
type WireError struct {
	Doing string // "read reply", "write", ...
	Kind  error  // one of the kinds above, or nil
	Seen  []byte // what the peer had sent of that reply or line, at most 512 octets
	Err   error  // what lies below; the cause of the context when that ended it
}

func (e *WireError) Error() string {
	s := e.Doing
	if e.Kind != nil {
		s += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if len(e.Seen) > 0 {
		s += fmt.Sprintf(" (seen %.80q)", e.Seen)
	}
	return s
}

// Unwrap gives both the kind and the error below.
func (e *WireError) Unwrap() []error {
	var list []error
	if e.Kind != nil {
		list = append(list, e.Kind)
	}
	if e.Err != nil {
		list = append(list, e.Err)
	}
	return list
}
