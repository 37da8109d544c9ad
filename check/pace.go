package check

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// A pace keeps the sessions with one target apart: a few at once to begin
// with, then one in each interval, and a pause that grows when the server says
// that it has had enough of us.
type pace struct {
	interval time.Duration

	mu     sync.Mutex
	burst  int
	next   time.Time // when the next session may begin
	pause  time.Duration
	begun  []time.Time // sessions of the last minute
	served bool        // since the last refusal
}

const (
	paceBurst   = 10
	maxPause    = time.Minute      // long enough for every limit that counts by the minute
	maxInterval = 15 * time.Second // slower than four sessions a minute is no check any more
)

func newPace(a netip.Addr, interval time.Duration) *pace {
	if a = a.Unmap(); a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		interval = 0
	}
	return &pace{interval: interval, burst: paceBurst}
}

// wait blocks until the next session may begin.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		now := time.Now()
		d := p.next.Sub(now)
		if d <= 0 {
			if p.burst > 0 {
				p.burst--
			} else {
				p.next = now.Add(p.interval)
			}
			p.begun = append(p.begun, now)
			p.mu.Unlock()
			return ctx.Err()
		}
		p.mu.Unlock()
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// refused is told when the server turned a session away; it returns how long
// all sessions now pause. Afterwards they come more slowly than they did in
// the minute before: servers count what one address does in a minute.
func (p *pace) refused() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.served || p.pause == 0 {
		p.slowDown(now)
	}
	if p.next.After(now.Add(time.Second)) {
		return p.next.Sub(now) // another session was turned away just before
	}
	p.pause = min(max(2*p.pause, time.Second), maxPause)
	p.next = now.Add(p.pause)
	return p.pause
}

// slowDown stretches the interval so that the sessions of the last minute
// would have taken two.
func (p *pace) slowDown(now time.Time) {
	p.served, p.burst, p.pause = false, 0, 0
	recent := 0
	for _, t := range p.begun {
		if now.Sub(t) < time.Minute {
			recent++
		}
	}
	p.begun = nil
	p.interval = min(max(p.interval, time.Minute/time.Duration(max(recent, 1))), maxInterval)
}

// welcome is told when a session went well.
func (p *pace) welcome() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.served = true
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
