package check

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"postern/plan"
	"postern/probe"
	"postern/transcript"
	"postern/verdict"
)

const (
	// perSession is how many forms one session plays at first. Postfix slows
	// down after 10 errors and hangs up after 20, Exim after 3 syntax errors or
	// 10 commands that carry no mail; whoever hangs up earlier teaches us.
	perSession = 8
	// patience bounds a port's whole battery, pauses included: it ends even
	// when a server answers every command just in time.
	patience = 15 * time.Minute
)

// A battery plays a list of forms against one port: in as few sessions as the
// server bears, a few of them side by side, again when it was put off.
type battery struct {
	smtp     probe.SMTP
	pace     *pace
	sessions int
	progress func(verdict.Exchange)
	paused   func(d time.Duration, why string)

	mu        sync.Mutex
	todo      []probe.Play
	perVisit  int
	done      map[string]verdict.Exchange // by form
	failures  map[string]int              // sessions that ended at a form, by form
	single    bool                        // the server has turned a session away
	turnedOff int                         // sessions in a row that did not come to be
	lastWhy   string
	silences  int // recipients in a row that were not answered in time
}

func newBattery(s probe.SMTP, p *pace, sessions int) *battery {
	return &battery{
		smtp: s, pace: p, sessions: sessions, perVisit: perSession,
		done: map[string]verdict.Exchange{}, failures: map[string]int{},
		progress: func(verdict.Exchange) {}, paused: func(time.Duration, string) {},
	}
}

// add puts plays behind those that wait.
func (b *battery) add(plays []probe.Play) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.todo = append(b.todo, plays...)
	b.turnedOff = 0
}

// play plays all that waits and records the exchanges. It returns when each is
// decided or nothing more can be learned.
func (b *battery) play(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	for b.more(ctx) {
		var wg sync.WaitGroup
		for i := range b.sessions {
			wg.Go(func() { b.work(ctx, i) })
		}
		wg.Wait()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.todo {
		b.record(verdict.Exchange{Form: p.Form, Envelope: p.Envelope, Token: p.Token, Outcome: verdict.NotRun, Why: b.whyNot(ctx)})
	}
	b.todo = nil
}

// more reports whether there is something to play and hope to play it.
func (b *battery) more(ctx context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.todo) > 0 && ctx.Err() == nil && b.turnedOff < maxTurnedOff
}

var errPatience = errors.New("the server took longer than 15 minutes for its battery")

// maxTurnedOff is after how many sessions in a row that did not come to be
// the rest of the battery is given up; the pauses between them add up to
// more than two minutes.
const maxTurnedOff = 5

func (b *battery) whyNot(ctx context.Context) string {
	if err := context.Cause(ctx); err != nil {
		return err.Error()
	}
	return "the server turns us away: " + b.lastWhy
}

// work plays until nothing is left. Once the server has turned a session
// away, the first worker goes on alone.
func (b *battery) work(ctx context.Context, worker int) {
	for ctx.Err() == nil && (worker == 0 || !b.oneByOne()) {
		batch := b.take()
		if len(batch) == 0 {
			return
		}
		if err := b.pace.wait(ctx); err != nil {
			b.giveBack(batch)
			return
		}
		if !probe.Shared(batch[0].Form.Move.Name) {
			b.alone(ctx, batch[0])
			continue
		}
		v, err := b.probe().Open(ctx, &transcript.Transcript{})
		if err == nil {
			err = v.TurnedAway()
		}
		if err != nil {
			b.giveBack(batch)
			b.refused(err.Error())
			continue
		}
		b.visit(ctx, v, batch)
		v.Close()
	}
}

// oneByOne reports whether sessions are played one after the other.
func (b *battery) oneByOne() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.single
}

// take returns the plays of the next session: a few that share one, or a
// single one that needs its own.
func (b *battery) take() []probe.Play {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.todo) == 0 || b.turnedOff >= maxTurnedOff {
		return nil
	}
	n := 1
	if first := b.todo[0]; probe.Shared(first.Form.Move.Name) && b.failures[first.Form.ID] == 0 {
		for n < len(b.todo) && n < b.perVisit && b.fits(first, b.todo[n]) {
			n++
		}
	}
	batch := slices.Clone(b.todo[:n])
	b.todo = slices.Clone(b.todo[n:])
	return batch
}

// fits reports whether two plays may share a session: neither has ended one,
// and both are pipelined or neither is.
func (b *battery) fits(first, p probe.Play) bool {
	return probe.Shared(p.Form.Move.Name) && b.failures[p.Form.ID] == 0 &&
		(first.Form.Move.Name == "") == (p.Form.Move.Name == "")
}

func (b *battery) giveBack(batch []probe.Play) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.todo = append(slices.Clone(batch), b.todo...)
}

// refused is told of a session that did not come to be.
func (b *battery) refused(why string) {
	d, counts := b.pace.refused()
	if !counts {
		return
	}
	b.mu.Lock()
	b.single = true
	if b.perVisit == perSession {
		b.perVisit = 2 * perSession // sessions are dear here, and nobody hung up on a long one so far
	}
	b.turnedOff++
	b.lastWhy = why
	goOn := b.turnedOff < maxTurnedOff
	b.mu.Unlock()
	if goOn {
		b.paused(d, why)
	}
}

// visit plays a batch in a session that is open. When the session ends early,
// what was not answered goes back; the form at which it ended comes again in
// a session of its own, and when that too ends there, that is its answer.
//
// A form that has ended a session is played in lockstep, and so is everything
// once a group of commands was not answered as it was asked.
func (b *battery) visit(ctx context.Context, v *probe.Visit, batch []probe.Play) {
	play := v.Play
	if b.failed(batch[0]) {
		play = v.PlayInStep
	}
	played, err := play(ctx, batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range played {
		b.record(x)
	}
	if len(played) > 0 {
		b.turnedOff = 0
		b.pace.welcome()
	}
	if err == nil {
		return
	}
	rest := batch[len(played):]
	if len(rest) == 0 {
		return
	}
	if errors.Is(err, probe.ErrOutOfStep) && !b.smtp.Lockstep {
		b.smtp.Lockstep = true
		b.todo = append(slices.Clone(rest), b.todo...)
		return
	}
	if len(played) > 0 {
		b.perVisit = min(b.perVisit, len(played))
	} else {
		b.lost(v, rest[0], err)
		rest = rest[1:]
	}
	b.todo = append(slices.Clone(rest), b.todo...)
}

// lost is told of a form with which a session began and ended: it is played
// once more, alone, and then what happened is the server's answer.
func (b *battery) lost(v *probe.Visit, p probe.Play, err error) {
	b.failures[p.Form.ID]++
	x := v.Lost(p, err)
	b.heed(x)
	if b.failures[p.Form.ID] < 2 && b.silences < enoughSilence {
		b.todo = append([]probe.Play{p}, b.todo...)
		return
	}
	b.record(x)
}

// A server that never answers a stranger's RCPT would take up the patience for
// all with a few forms: once so many recipients in a row were waited for in
// vain, the others get less time, and no second try.
const (
	enoughSilence = 3
	hasty         = 4 * time.Second
)

// heed is told of each exchange that was brought to its end or lost.
func (b *battery) heed(x verdict.Exchange) {
	switch {
	case x.Outcome == verdict.Silent && x.Stage == verdict.AtRcpt:
		b.silences++
	case !x.Reply.IsZero() && (x.Stage == verdict.AtRcpt || x.Stage == verdict.AtData || x.Stage == verdict.AtMessage):
		b.silences = 0
	}
	if b.silences < enoughSilence || b.smtp.Timeout > 0 && b.smtp.Timeout <= hasty {
		return
	}
	b.smtp.Banner = cmp.Or(b.smtp.Banner, b.smtp.Timeout, probe.DefaultTimeout)
	b.smtp.Timeout = hasty
}

// probe returns how sessions are made by now.
func (b *battery) probe() probe.SMTP {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.smtp
}

// failed reports whether a session has ended at that form.
func (b *battery) failed(p probe.Play) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures[p.Form.ID] > 0
}

func (b *battery) alone(ctx context.Context, p probe.Play) {
	x, err := b.probe().PlayAlone(ctx, p)
	if err != nil {
		b.notReached(x, p, err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.Outcome == verdict.Dropped && b.failures[p.Form.ID] == 0 {
		b.failures[p.Form.ID]++ // once may be chance
		b.todo = append(b.todo, p)
		return
	}
	b.turnedOff = 0
	b.pace.welcome()
	if x.Outcome == verdict.Silent {
		b.heed(x)
	}
	b.record(x)
	if x.Outcome == verdict.NotOffered {
		b.skip(x)
	}
}

// maxFailures is how many sessions one form may cost: one that breaks them by
// itself must not use up the patience for all.
const maxFailures = 3

// notReached is told of a session that ended before its form was played.
func (b *battery) notReached(x verdict.Exchange, p probe.Play, err error) {
	b.mu.Lock()
	if !errors.Is(err, probe.ErrTurnedAway) && !errors.Is(err, probe.ErrNoBanner) && !errors.Is(err, probe.ErrNotConnected) {
		b.failures[p.Form.ID]++
	}
	if b.failures[p.Form.ID] >= maxFailures {
		b.record(x)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	b.giveBack([]probe.Play{p})
	b.refused(err.Error())
}

// skip settles the other forms of a move that the server has no part in.
func (b *battery) skip(x verdict.Exchange) {
	b.todo = slices.DeleteFunc(slices.Clone(b.todo), func(p probe.Play) bool {
		if p.Form.Move.Name != x.Form.Move.Name {
			return false
		}
		b.record(verdict.Exchange{Form: p.Form, Envelope: p.Envelope, Token: p.Token, Tries: 1, Stage: x.Stage, Outcome: x.Outcome, Why: x.Why, Reply: x.Reply, At: x.At, Transcript: x.Transcript})
		return true
	})
}

// record keeps the exchange; of a form played again, the later one counts.
func (b *battery) record(x verdict.Exchange) {
	x.Tries += b.done[x.Form.ID].Tries
	if x.Outcome != verdict.Silent {
		b.heed(x)
	}
	b.done[x.Form.ID] = x
	b.progress(x)
}

// retryDelays are the pauses before what was put off is played again with the
// same envelope, as greylisting asks (RFC 6647 section 5). They are cut off
// where the caller's patience ends.
var retryDelays = []time.Duration{3 * time.Second, 4 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 4 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute}

// putOff returns the plays whose exchange may come out otherwise later.
func (b *battery) putOff(plays []probe.Play, firm func(verdict.Exchange) bool) []probe.Play {
	b.mu.Lock()
	defer b.mu.Unlock()
	var again []probe.Play
	for _, p := range plays {
		x, ok := b.done[p.Form.ID]
		if ok && x.Outcome == verdict.Deferred && !firm(x) {
			again = append(again, p)
		}
	}
	return again
}

// settle records an exchange that was played beside the battery.
func (b *battery) settle(x verdict.Exchange) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done[x.Form.ID] = x
	b.progress(x)
}

// outcome returns what came of a form, the zero Exchange when it was not played.
func (b *battery) outcome(id string) verdict.Exchange {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done[id]
}

// shelve moves the conversations out of memory.
func (b *battery) shelve(s *spool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.done {
		s.take(x.Transcript)
	}
}

// passed returns the plays whose recipient was accepted and whose message was
// held back.
func (b *battery) passed(plays []probe.Play) []probe.Play {
	b.mu.Lock()
	defer b.mu.Unlock()
	var held []probe.Play
	for _, p := range plays {
		if b.done[p.Form.ID].Outcome == verdict.Passed {
			held = append(held, p)
		}
	}
	return held
}

// exchange returns what was played of one form.
func (b *battery) exchange(id string) (verdict.Exchange, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, ok := b.done[id]
	return x, ok
}

// exchanges returns what was played, in the order of the plan.
func (b *battery) exchanges(order []plan.Form) []verdict.Exchange {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []verdict.Exchange
	for _, f := range order {
		if x, ok := b.done[f.ID]; ok {
			all = append(all, x)
		}
	}
	return all
}
