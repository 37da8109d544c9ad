package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/attr"
	"postern/internal/netop"
)

// A relay is alive when all of its parts are: one that takes no mail, delivers
// none, or watches nothing any more must not look well. So each part that
// lives as long as the relay is watched here. One that ends ends the relay, and
// so does one that gives no sign for long: whoever started it starts it anew.
type life struct {
	mu     sync.Mutex
	pulses []*pulse
	silent map[string]int // rounds in a row without a sign, by part

	round atomic.Int64 // when it was last looked, in nanoseconds of the process's own clock
	began time.Time    // of which this is the zero
}

// A pulse is a part that gives a sign by itself, once in each turn of its loop.
type pulse struct {
	name     string
	patience int // rounds in a row without a beat that are still life: a turn may take long
	beats    atomic.Int64
	seen     int64
	silent   int
}

// errSilent is why a part that should work is taken for dead.
var errSilent = errors.New("it gives no sign of life")

// How a relay looks at itself. Rounds are counted, not time: a process that was
// stopped and goes on has missed none.
const (
	lookAlive   = 15 * time.Second // between two rounds
	askPatience = 10 * time.Second // for a part to answer
	deafRounds  = 4                // in a row without an answer end the relay
	slowRounds  = 40               // without a turn of a loop that may have much to do
)

// pulse adds a part that must beat.
func (l *life) pulse(name string, patience int) *pulse {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &pulse{name: name, patience: patience}
	l.pulses = append(l.pulses, p)
	return p
}

// begin begins the rounds.
func (l *life) begin() { l.began = time.Now() }

// beat is a sign of life.
func (p *pulse) beat() { p.beats.Add(1) }

// look is one round: signs are the parts that were asked, with nil for those
// that answered. It returns what must end the relay.
func (l *life) look(signs map[string]error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round.Store(int64(time.Since(l.began)))
	if l.silent == nil {
		l.silent = map[string]int{}
	}
	var dead []error
	for name := range l.silent {
		if _, asked := signs[name]; !asked {
			delete(l.silent, name)
		}
	}
	for name, err := range signs {
		if !errors.Is(err, errSilent) {
			delete(l.silent, name)
			continue
		}
		if l.silent[name]++; l.silent[name] >= deafRounds {
			dead = append(dead, err)
		}
	}
	for _, p := range l.pulses {
		if now := p.beats.Load(); now != p.seen {
			p.seen, p.silent = now, 0
			continue
		}
		if p.silent++; p.silent >= p.patience {
			dead = append(dead, fmt.Errorf("%s: %w", p.name, errSilent))
		}
	}
	return errors.Join(dead...)
}

// asleep reports that nobody has looked for long.
func (l *life) asleep() error {
	if since := time.Since(l.began) - time.Duration(l.round.Load()); since > deafRounds*lookAlive {
		return fmt.Errorf("nobody has looked after the relay for %v: %w", since.Round(time.Second), errSilent)
	}
	return nil
}

// watchLife looks at all parts until ctx ends, or until one of them is dead.
func (r *Relay) watchLife(ctx context.Context) error {
	t := time.NewTicker(lookAlive)
	defer t.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		signs := r.signs(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := r.life.look(signs); err != nil {
			return err
		}
		var bad []error
		for _, err := range signs {
			bad = append(bad, err)
		}
		now := text(errors.Join(bad...))
		if now != said && now != "" {
			r.o.Log.LogAttrs(ctx, slog.LevelError, "a part of the relay does not work", attr.Err(errors.New(now)))
		}
		said = now
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// signs asks every part that can be asked, all at once.
func (r *Relay) signs(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	ask := map[string]func(context.Context) error{
		"the queue": func(ctx context.Context) error {
			_ = r.queue.Room(0) // what it says is the clients' affair: 452
			_, err := r.queue.Stats(ctx)
			return err
		},
		"the delivery":       r.deliver.Alive,
		"the control socket": func(ctx context.Context) error { return r.self.Get(ctx, "/status", &Status{}) },
	}
	if ears := r.ears.Load(); ears != nil {
		for _, e := range *ears {
			ask[e.String()] = e.hears
		}
	}
	type answer struct {
		part string
		err  error
	}
	answers := make(chan answer, len(ask))
	for part, sign := range ask {
		go func() { answers <- answer{part, sign(ctx)} }() // one that hangs is what is looked for: nobody waits for it
	}
	signs := make(map[string]error, len(ask))
	for part := range ask {
		signs[part] = fmt.Errorf("%s: %w", part, errSilent)
	}
	for range ask {
		select {
		case a := <-answers:
			switch {
			case a.err == nil, errors.Is(a.err, errSilent):
				signs[a.part] = a.err
			case ctx.Err() == nil:
				signs[a.part] = fmt.Errorf("%s: %w", a.part, a.err)
			}
		case <-ctx.Done():
			return signs
		}
	}
	return signs
}

// short hears of each client that could not be let in, and tells of the first
// and then of one a minute: a machine that has no descriptors left has them
// for nothing else than a line of its log.
func (r *Relay) short(err error) {
	r.metrics.unheard.Inc()
	n, now := r.unheard.tell(time.Now())
	if !now {
		return
	}
	if !netop.Exhausted(err) {
		r.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "a client could not be let in", slog.Int("times", n), attr.Err(err))
		return
	}
	r.o.Log.LogAttrs(context.Background(), slog.LevelError, "no descriptor or memory is left: new clients are told to come again; raise LimitNOFILE, or lower connections in limits",
		slog.Int("times", n), attr.Err(err))
}

// seldom lets one in a minute be told, with how many there were.
type seldom struct {
	mu   sync.Mutex
	last time.Time
	n    int
}

func (s *seldom) tell(now time.Time) (n int, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n++; !s.last.IsZero() && now.Sub(s.last) < time.Minute {
		return 0, false
	}
	n, s.n, s.last = s.n, 0, now
	return n, true
}
