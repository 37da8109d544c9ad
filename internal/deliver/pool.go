package deliver

import (
	"context"
	"sync"
	"time"
)

const (
	mostUsed   = 100             // messages of one connection: some servers count
	idleFor    = 5 * time.Second // what nobody needs by then is closed
	mostIdle   = 200             // connections, of all destinations
	idlePerKey = 20
)

// A pool keeps connections for a moment after they were used.
type pool struct {
	mu    sync.Mutex
	idle  map[string][]*link
	count int
	quit  chan *link
}

func newPool() *pool { return &pool{idle: map[string][]*link{}, quit: make(chan *link, mostIdle)} }

// get takes the link that was used last: the others may end.
func (p *pool) get(key string) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return nil
	}
	l := list[len(list)-1]
	list[len(list)-1] = nil
	if p.idle[key] = list[:len(list)-1]; len(list) == 1 {
		delete(p.idle, key)
	}
	p.count--
	return l
}

// put takes a link back.
func (p *pool) put(l *link) {
	key := l.key
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.used < mostUsed && p.count < mostIdle && len(p.idle[key]) < idlePerKey {
		l.since = time.Now()
		p.idle[key] = append(p.idle[key], l)
		p.count++
		return
	}
	p.end(l)
}

// end lets run say goodbye; where too many wait for that, it is not said.
func (p *pool) end(l *link) {
	select {
	case p.quit <- l:
	default:
		l.close()
	}
}

// run ends what was not used for a while, until ctx ends, and then all.
func (p *pool) run(ctx context.Context) {
	const goodbyes = 8 // at once: each waits for a reply
	goodbye := p.quit
	var g sync.WaitGroup
	for range goodbyes {
		g.Go(func() {
			for l := range goodbye {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
				_ = l.client.Quit(last) // it is closed either way
				cancel()
			}
		})
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			p.sweep(now.Add(-idleFor))
		}
	}
	p.sweep(time.Now().Add(time.Hour))
	p.mu.Lock()
	p.count = mostIdle // what comes back from now on is closed at once
	close(p.quit)
	p.quit = nil
	p.mu.Unlock()
	g.Wait()
}

func (p *pool) sweep(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, list := range p.idle {
		n := 0
		for n < len(list) && list[n].since.Before(before) {
			p.end(list[n])
			n++
		}
		p.count -= n
		if list = list[n:]; len(list) == 0 {
			delete(p.idle, key)
		} else {
			p.idle[key] = list
		}
	}
}
