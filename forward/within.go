package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"postern/internal/netop"
)

// The kinds of a failure on the wire; test with errors.Is.
var (
	ErrTimeout = netop.ErrTimeout
	ErrClosed  = netop.ErrClosed
)

// A WireError says what failed while doing what.
type WireError = netop.Error

// Within runs do, whose reads and writes on conn end when ctx does. An error
// of the connection becomes a *WireError: ErrTimeout with the cause of ctx,
// ErrClosed, or what it was; every other error comes back as it is. It leaves
// conn without a deadline.
func Within(ctx context.Context, conn net.Conn, doing string, do func() error) error {
	disarm := netop.Arm(ctx, conn.SetDeadline)
	err := do()
	disarm()
	var below net.Error
	switch {
	case err == nil:
		return nil
	case netop.IsTimeout(err):
		return &WireError{Doing: doing, Kind: ErrTimeout, Err: netop.Cause(ctx)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &WireError{Doing: doing, Kind: ErrClosed}
	case errors.Is(err, io.ErrClosedPipe), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &WireError{Doing: doing, Kind: ErrClosed, Err: err}
	case errors.As(err, &below):
		return &WireError{Doing: doing, Err: err}
	}
	return err
}
