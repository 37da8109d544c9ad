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
// It starts nothing and is safe for concurrent use.
type Pool struct {
	places chan struct{} // those who hash and those who wait
	slots  chan struct{} // those who hash
	wait   time.Duration
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
	return &Pool{places: make(chan struct{}, atOnce+waiting), slots: make(chan struct{}, atOnce), wait: wait}
}

// do runs f in a slot, or returns errBusy without running it.
func (p *Pool) do(ctx context.Context, f func()) error {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		return errBusy
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.wait, errBusy)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return errors.Join(errBusy, context.Cause(ctx))
	}
	f()
	return nil
}
