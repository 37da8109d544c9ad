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

	mu    sync.Mutex
	burst int
	next  time.Time // when the next session may begin
	pause time.Duration
}

const (
	paceBurst = 6
	maxPause  = time.Minute // long enough for every limit that counts by the minute
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
// all sessions now pause.
func (p *pace) refused() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = min(max(2*p.pause, time.Second), maxPause)
	p.burst = 0
	if until := time.Now().Add(p.pause); until.After(p.next) {
		p.next = until
	}
	return time.Until(p.next)
}

// served is told when a session went well.
func (p *pace) served() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = 0
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
