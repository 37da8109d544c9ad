package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// The kinds of a failure on the wire; test with errors.Is.
var (
	ErrTimeout = errors.New("no answer in time")
	ErrClosed  = errors.New("connection closed by peer")
)

// A WireError says what failed while doing what.
type WireError struct {
	Doing string // "SOCKS5 request", "read answer", ...
	Kind  error  // ErrTimeout, ErrClosed, one of the door's own, or nil
	Seen  []byte // what had come of the answer
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

// Within runs do, whose reads and writes on conn end when ctx does. An error
// of the connection becomes a *WireError: ErrTimeout with the cause of ctx,
// ErrClosed, or what it was; every other error comes back as it is. It leaves
// conn without a deadline.
func Within(ctx context.Context, conn net.Conn, doing string, do func() error) error {
	disarm := arm(ctx, conn.SetDeadline)
	err := do()
	disarm()
	var below net.Error
	switch {
	case err == nil:
		return nil
	case isTimeout(err):
		return &WireError{Doing: doing, Kind: ErrTimeout, Err: cause(ctx)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &WireError{Doing: doing, Kind: ErrClosed}
	case errors.Is(err, io.ErrClosedPipe), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &WireError{Doing: doing, Kind: ErrClosed, Err: err}
	case errors.As(err, &below):
		return &WireError{Doing: doing, Err: err}
	}
	return err
}

// arm ends an operation on a connection when ctx ends; disarm must be called
// after it, and leaves the connection without a deadline.
func arm(ctx context.Context, set func(time.Time) error) (disarm func()) {
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

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// cause says why ctx ended; a limit that the caller set on the connection
// itself has none.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return context.DeadlineExceeded
}

// AddrPort returns the address of a, none where it has none, an IPv4 one in
// its own form.
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

// Limited bounds ctx by a limit, a negative one not at all; its cause says
// what was waited for.
func Limited(ctx context.Context, limit time.Duration, what string) (context.Context, context.CancelFunc) {
	if limit < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %v for %s", limit, what))
}
