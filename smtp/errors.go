package smtp

import (
	"errors"

	"postern/internal/netop"
	"postern/mail"
)

// The kinds of a failure on the wire; test with errors.Is.
var (
	ErrClosed      = netop.ErrClosed
	ErrTimeout     = netop.ErrTimeout
	ErrNotSMTP     = errors.New("not an SMTP reply")
	ErrLineTooLong = errors.New("line too long")
	ErrTruncated   = errors.New("message cut off before its end")
	ErrBareLine    = errors.New("line ends in a bare CR or LF")
	ErrNUL         = errors.New("a NUL in a message")
	ErrTooLarge    = errors.New("message too large")
	ErrEarly       = errors.New("the server answered before the message came to its end")
	ErrReset       = errors.New("message given up by the client")
)

// What a client cannot do on this connection.
var (
	ErrNotOffered = errors.New("the server does not offer what this message needs")
	ErrTooMany    = errors.New("more recipients than the server takes at once")
	ErrNoChunks   = errors.New("the server offers CHUNKING and does not know BDAT")
	ErrNoTLS      = errors.New("no login without TLS")
)

// A ReplyError is a reply that was not the one hoped for.
type ReplyError struct {
	Doing string // "banner", "EHLO", "AUTH", ...
	Reply mail.Reply
}

func (e *ReplyError) Error() string { return e.Doing + ": " + e.Reply.String() }

// A WireError says what failed while doing what; its kind is one of those above.
type WireError = netop.Error
