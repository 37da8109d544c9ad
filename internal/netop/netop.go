// Package netop is what the wires have in common: the loop that lets clients
// in, an operation on a connection that ends with its context, and the error
// that says what failed while doing what.
package netop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// The kinds of a failure that every wire knows; test with errors.Is.
var (
	ErrClosed  = errors.New("connection closed by peer")
	ErrTimeout = errors.New("no answer in time")
)

// An Error says what failed while doing what.
type Error struct {
	Doing string // "read reply", "SOCKS5 request", ...
	Kind  error  // ErrClosed, ErrTimeout, one of the wire's own, or nil
	Seen  []byte // what the peer had sent of it, at most 512 octets
	Err   error  // what lies below; the cause of the context when that ended it
}

func (e *Error) Error() string {
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
func (e *Error) Unwrap() []error {
	var list []error
	if e.Kind != nil {
		list = append(list, e.Kind)
	}
	if e.Err != nil {
		list = append(list, e.Err)
	}
	return list
}

// Arm ends an operation on a connection when ctx ends; disarm must be called
// after it, and leaves the connection without a deadline.
func Arm(ctx context.Context, set func(time.Time) error) (disarm func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	// Not by the deadline of ctx: the connection could meet it first, and the
	// context would not know its cause yet.
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = set(time.Unix(1, 0))
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended
			_ = set(time.Time{})
		}
	}
}

// IsTimeout reports a deadline of the connection that has passed.
func IsTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// Cause says why ctx ended; a time limit that the caller set on the connection
// itself has none.
func Cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

// Limited bounds ctx by a limit, a negative one not at all; its cause says
// what was waited for.
func Limited(ctx context.Context, limit time.Duration, what string) (context.Context, context.CancelFunc) {
	if limit < 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, limit, &waitedError{limit, what})
}

// A waitedError is the cause of a wait that was too long. It is made for each
// wait, and written for few.
type waitedError struct {
	limit time.Duration
	what  string
}

func (e *waitedError) Error() string { return fmt.Sprintf("waited %v for %s", e.limit, e.what) }

// AddrPort returns the address of a, none where it has none, an IPv4 one in
// its own form: a mapped address must not be judged by other rules.
func AddrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case nil:
	case *net.TCPAddr:
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
