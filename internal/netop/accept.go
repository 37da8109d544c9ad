package netop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// Accept is the accept loop of every server: it hands each connection of l to
// serve, which must not block, until ctx ends or l is closed. It closes l and
// returns nil after ctx has ended, else why nobody can be let in any more.
//
// It never gives up over what passes. When descriptors or memory are used up
// it waits for them, however long that takes, and what it holds in reserve is
// spent on turn: that one gets a client whom nobody can serve now, tells it to
// come again, and must not block either. Accept closes its connection; turn
// nil says nothing.
func Accept(ctx context.Context, l net.Listener, turn, serve func(net.Conn)) error {
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var spare reserve
	spare.take()
	defer spare.give()
	for wait := time.Duration(0); ; {
		c, err := l.Accept()
		if err == nil {
			wait = 0
			if spare.take() {
				serve(c)
				continue
			}
			// It was let in by the last descriptor that there was: what follows
			// an answer, a file of the queue or a name to look up, has none.
			if turn != nil {
				turn(c)
			}
			c.Close()
			spare.take()
			continue
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case ended(err):
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		case Exhausted(err) && spare.give():
			continue // at once: the client that waits gets what was held in reserve
		}
		// A client that gave up in between, or no descriptor, not even that of
		// the reserve.
		wait = min(max(leastAcceptWait, 2*wait), mostAcceptWait)
		Pause(ctx, wait)
	}
}

// How long a failed accept is waited after: at first, and at most.
const (
	leastAcceptWait = 5 * time.Millisecond
	mostAcceptWait  = time.Second
)

// ended reports that a listener will never accept again (accept(2)).
func ended(err error) bool {
	for _, end := range []error{net.ErrClosed, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// Exhausted reports that an operation failed because this process, or the
// machine, has no descriptor or no memory for it now.
func Exhausted(err error) bool {
	for _, short := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, short) {
			return true
		}
	}
	return false
}

// Pause waits, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
