package check

import (
	"context"
	"net"
	"sync"
	"time"
)

// Places bound how many targets are spoken with at once. A target holds one
// while octets pass between it and us, and gives it back when nothing has
// passed for a lull: most of a check is waiting, for an arrival, for a server
// that puts us off or answers late, for our own pace, and a wait is no work.
type places struct {
	limit int

	mu    sync.Mutex
	busy  int
	queue []chan struct{} // closed, one after the other, as places become free
}

// lull is after how long without an octet a target's place is given to another:
// longer than a reply that comes at once takes from the other side of the earth.
const lull = 250 * time.Millisecond

// newPlaces returns nil, which bounds nothing, for a limit of 0.
func newPlaces(limit int) *places {
	if limit <= 0 {
		return nil
	}
	return &places{limit: limit}
}

// wait takes a place when one is free.
func (p *places) wait(ctx context.Context) error {
	p.mu.Lock()
	if p.busy < p.limit && len(p.queue) == 0 {
		p.busy++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.queue = append(p.queue, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, each := range p.queue {
		if each == turn {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			return context.Cause(ctx)
		}
	}
	p.release() // the turn came at the same moment
	return context.Cause(ctx)
}

// take takes a place at once, also beyond the limit: a session that is open is
// gone on with, since its server's patience is running.
func (p *places) take() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
}

func (p *places) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release()
}

func (p *places) release() {
	p.busy--
	if p.busy < p.limit && len(p.queue) > 0 {
		close(p.queue[0])
		p.queue = p.queue[1:]
		p.busy++
	}
}

// A place is that of one target, held or not.
type place struct {
	all *places

	mu    sync.Mutex
	held  bool
	ended bool
	lull  *time.Timer
}

// newPlace returns the place of a target, nil where there is no bound.
func (p *places) newPlace() *place {
	if p == nil {
		return nil
	}
	q := &place{all: p}
	q.lull = time.AfterFunc(lull, q.rest)
	return q
}

// dialer returns dial for the target: a connection begins when there is a
// place, and whatever passes on it keeps the place.
func (q *place) dialer(dial dialFunc) dialFunc {
	if q == nil {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := q.begin(ctx); err != nil {
			return nil, err
		}
		c, err := dial(ctx, network, address)
		q.stir()
		if err != nil {
			return nil, err
		}
		return &stirring{Conn: c, place: q}, nil
	}
}

// begin waits for a place unless the target has it.
func (q *place) begin(ctx context.Context) error {
	q.mu.Lock()
	held := q.held
	q.mu.Unlock()
	if held {
		q.stir()
		return nil
	}
	if err := q.all.wait(ctx); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held || q.ended {
		q.all.giveBack() // another connection of the target was faster
		return nil
	}
	q.held = true
	q.lull.Reset(lull)
	return nil
}

// stir is told that an octet passed.
func (q *place) stir() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return
	}
	if !q.held {
		q.held = true
		q.all.take()
	}
	q.lull.Reset(lull)
}

func (q *place) rest() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held {
		q.held = false
		q.all.giveBack()
	}
}

// end gives the place back for good.
func (q *place) end() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held {
		q.held = false
		q.all.giveBack()
	}
	q.ended = true
	q.lull.Stop()
}

// A stirring connection tells its target's place of what passes.
type stirring struct {
	net.Conn
	place *place
}

// Read reads.
func (s *stirring) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.place.stir()
	return n, err
}

// Write writes.
func (s *stirring) Write(p []byte) (int, error) {
	s.place.stir()
	return s.Conn.Write(p)
}
