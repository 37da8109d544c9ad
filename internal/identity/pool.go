package identity

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// errBusy says that no password could be checked in time. The client may try
// again: 454 4.7.0 (RFC 4954 section 6).
var errBusy = errors.New("too many passwords are being checked")

// A Pool bounds how many passwords are hashed at once, and how many wait for
// it: hashing is made to be dear, and strangers decide how often it happens.
// Who has logged in from the same network before has places of their own and
// one hash more at once, so that strangers who take all the others are no
// hindrance. It starts nothing and is safe for concurrent use.
type Pool struct {
	places, known chan struct{} // those who hash and those who wait: anybody, and known ones
	slots, spare  chan struct{} // those who hash: anybody, and one known one more
	wait          time.Duration
}

// NewPool makes a pool of so many at once, so many waiting, each no longer
// than wait. Zeros are one for each processor, 64, and 10 seconds.
func NewPool(atOnce, waiting int, wait time.Duration) *Pool {
	if atOnce < 1 {
		atOnce = runtime.GOMAXPROCS(0)
	}
	if waiting < 1 {
		waiting = 64
	}
	if wait <= 0 {
		wait = 10 * time.Second
	}
	return &Pool{
		places: make(chan struct{}, atOnce+waiting), known: make(chan struct{}, atOnce+waiting),
		slots: make(chan struct{}, atOnce), spare: make(chan struct{}, 1), wait: wait,
	}
}

// do runs f in a slot, or returns errBusy without running it.
func (p *Pool) do(ctx context.Context, known bool, f func()) error {
	places, spare := p.places, chan struct{}(nil) // nobody gets through nil
	if known {
		places, spare = p.known, p.spare
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		return errBusy
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.wait, errBusy)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case spare <- struct{}{}:
		defer func() { <-spare }()
	case <-ctx.Done():
		return errors.Join(errBusy, context.Cause(ctx))
	}
	f()
	return nil
}
