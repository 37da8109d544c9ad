package check

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"postern/plan"
	"postern/verdict"
)

// A watch keeps the arrivals of one run. It holds only what carries a token
// of a battery that is still being judged, so that it stays small however many
// hosts are checked.
type watch struct {
	collector Collector

	mu      sync.Mutex
	waiters map[plan.Token]*inbox
	err     error // of the last question to the collector
}

// failed returns why the collector cannot be asked just now, or nil.
func (w *watch) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watch) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// An inbox is where one port's arrivals come in.
type inbox struct {
	mu    sync.Mutex
	list  []verdict.Arrival
	fresh chan struct{} // holds one notice that something came
}

func newWatch(c Collector) *watch {
	return &watch{collector: c, waiters: map[plan.Token]*inbox{}}
}

// run passes arrivals on until ctx ends. A collector that fails for a moment
// is asked again; its record is not lost.
func (w *watch) run(ctx context.Context) {
	if w.collector == nil {
		return
	}
	var after uint64
	for ctx.Err() == nil {
		list, next, err := w.collector.Arrivals(ctx, after)
		if err != nil && ctx.Err() == nil {
			w.note(err)
			if sleep(ctx, time.Second) != nil {
				return
			}
			continue
		}
		w.note(nil)
		after = next
		for _, a := range list {
			w.deliver(a)
		}
	}
}

func (w *watch) deliver(a verdict.Arrival) {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := map[*inbox]bool{}
	for _, t := range a.Tokens {
		if in := w.waiters[t]; in != nil && !told[in] {
			told[in] = true
			in.put(a)
		}
	}
}

// expect opens an inbox for the tokens; close it with forget.
func (w *watch) expect(tokens []plan.Token) *inbox {
	in := &inbox{fresh: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tokens {
		w.waiters[t] = in
	}
	return in
}

// also has the inbox take what comes for more tokens.
func (w *watch) also(in *inbox, tokens []plan.Token) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tokens {
		w.waiters[t] = in
	}
}

func (w *watch) forget(tokens []plan.Token) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tokens {
		delete(w.waiters, t)
	}
}

// maxInbox is far more than one port's battery can make arrive, even when
// every message bounces and comes twice.
const maxInbox = 2000

func (in *inbox) put(a verdict.Arrival) {
	in.mu.Lock()
	if len(in.list) < maxInbox {
		in.list = append(in.list, a)
	}
	in.mu.Unlock()
	select {
	case in.fresh <- struct{}{}:
	default:
	}
}

func (in *inbox) arrivals() []verdict.Arrival {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]verdict.Arrival(nil), in.list...)
}

// quiet is how long after an arrival that proves a port open the others are
// waited for: they show which forms besides, and change the verdict no more.
const quiet = 3 * time.Second

// quietForCause is that patience while a form that stands before the proof in
// the battery's order was taken and is still on its way: why the server is
// open, and what closes it, is said by the first that arrives. A server that
// sends to one host after the other, as OpenSMTPD does, brings plain last.
const quietForCause = 5 * quiet

// plainerOnItsWay reports whether a form before the one that proves the port
// open has been taken and has not arrived.
func plainerOnItsWay(j verdict.Judgement) bool {
	for _, f := range j.Forms {
		switch f.State {
		case verdict.Arrived:
			return false
		case verdict.Accepted:
			return true
		case verdict.Bounced, verdict.Local, verdict.Refused, verdict.Untested, verdict.Noted:
		}
	}
	return false
}

// localWait is the patience with messages that were taken for a mailbox of the
// server's own: what may still come of them, a notice or a smuggled message,
// comes at once or not at all.
const localWait = 5 * time.Second

// await waits until every message that the port took has arrived or come back,
// until nothing more follows a proof, or until the patience is used up.
func (p *port) await(ctx context.Context) verdict.Judgement {
	if p.inbox == nil {
		return verdict.Judge(p.evidence) // nothing was tested
	}
	p.rest()
	start := time.Now()
	p.evidence.Waiting = true
	over := func() verdict.Judgement {
		p.evidence.Waiting = false
		if err := p.watch.failed(); err != nil && p.evidence.Blind == "" {
			p.evidence.Blind = "the collector stopped answering: " + err.Error()
		}
		return verdict.Judge(p.evidence)
	}
	for {
		p.evidence.Arrivals = p.inbox.arrivals()
		p.evidence.Waited = time.Since(start)
		j := verdict.Judge(p.evidence)
		patience := time.Duration(0)
		switch {
		case j.Count(verdict.Accepted) > 0:
			patience = p.o.Wait
		case p.tookLocal(j), p.sentBlindly(j):
			patience = min(localWait, p.o.Wait)
		}
		left := patience - p.evidence.Waited
		if left <= 0 || p.o.Collector == nil {
			return over()
		}
		switch {
		case j.Verdict != verdict.Open:
		case plainerOnItsWay(j):
			left = min(left, quietForCause)
		default:
			left = min(left, quiet)
		}
		p.progress(Waiting, fmt.Sprintf("%d messages taken; arrival, %s left", j.Count(verdict.Accepted)+j.Count(verdict.Local), left.Round(time.Second)))
		proved := j.Verdict == verdict.Open
		if !came(ctx, p.inbox, left) && (proved || ctx.Err() != nil) {
			p.evidence.Arrivals, p.evidence.Waited = p.inbox.arrivals(), time.Since(start)
			p.evidence.Cut = !proved && p.evidence.Waited < patience
			return over()
		}
	}
}

// rest lets go of what was needed for playing: most ports wait for far longer
// than they are played, many of them side by side.
func (p *port) rest() {
	for _, x := range p.evidence.Exchanges {
		p.spool.take(x.Transcript)
	}
	p.evidence.Exchanges = slices.Clip(p.evidence.Exchanges)
	p.total, p.plays, p.battery = len(p.plays), nil, nil
}

// sentBlindly reports whether a message went out in a request's body, of which
// nobody says what became of it.
func (p *port) sentBlindly(j verdict.Judgement) bool {
	for _, f := range j.Forms {
		if f.Form.Hole == "request-body" && f.State != verdict.Arrived && f.Answer != verdict.Forbidden && f.Answer != verdict.WantsLogin && f.Outcome != verdict.NotRun && f.Outcome != verdict.NotOffered {
			return true
		}
	}
	return false
}

// tookLocal reports whether a whole message was taken for a mailbox of the server's own.
func (p *port) tookLocal(j verdict.Judgement) bool {
	for _, f := range j.Forms {
		if f.State == verdict.Local && f.Stage == verdict.AtMessage {
			return true
		}
	}
	return false
}

// came reports whether something came within d.
func came(ctx context.Context, in *inbox, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-in.fresh:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}
