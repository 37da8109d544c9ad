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
	paused time.Time // until when refusals are those of one moment
	inRow  int       // refusals since the last session that was served
	served []time.Time
}

const (
	paceBurst   = 10
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
			p.mu.Unlock()
			return ctx.Err()
		}
		p.mu.Unlock()
		if err := sleep(ctx, d); err != nil {
			return err
		}
	}
}

// pauses are how long nobody knocks after each refusal in a row. Servers count
// by the minute, and some count what they turn away too: only a whole minute
// of silence helps there.
var pauses = []time.Duration{2 * time.Second, 10 * time.Second, 61 * time.Second}

// refused is told when the server turned a session away; it returns how long
// all sessions now pause, and whether this is a refusal of its own or one of
// several in the same moment. Afterwards sessions come more slowly than before.
func (p *pace) refused() (pause time.Duration, counts bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.paused) {
		return p.next.Sub(now), false // one that began before the pause, and counts no further
	}
	p.slowDown(now)
	pause = pauses[min(p.inRow, len(pauses)-1)]
	p.inRow++
	p.next, p.paused = now.Add(pause), now.Add(pause/2)
	return pause, true
}

// slowDown stretches the interval beyond what the served sessions of the last
// minute took.
func (p *pace) slowDown(now time.Time) {
	p.burst = 0
	recent := 0
	for _, t := range p.served {
		if now.Sub(t) < time.Minute {
			recent++
		}
	}
	p.served = nil
	if recent > 0 {
		p.interval = min(max(p.interval, 3*time.Minute/time.Duration(2*recent)), maxInterval)
	}
}

// welcome is told when a session went well.
func (p *pace) welcome() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.served = append(p.served, time.Now())
	p.inRow = 0
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
