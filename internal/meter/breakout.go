package meter

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The rule of breakouts, all of it. An identity's habit is its busiest hour of
// the last 35 days, in messages and in addresses, leaving out the last 24 hours
// and what was held. It breaks out with the message that is more than twice its
// habit within an hour of the clock, and more than a floor that everybody has.
//
// Why twice: a newsletter that takes an hour falls into two hours of the clock
// one week, and into one the next. Why not the last day: who doubles each hour
// would make a habit of it. Why 35 days: a bill that goes out once a month is
// no breakout the second time. The first time it is, and the operator says so
// once: what was released is the habit from then on.

// A Habit is what an identity sends within an hour.
type Habit struct {
	Messages   int64 `json:"messages"`
	Recipients int64 `json:"recipients"`
}

// Floor is what nobody breaks out below: a person does not write to 50 people
// by hand within an hour, nor to 100.
var Floor = Habit{50, 100}

const (
	sinceHabit = 24        // hours that are no habit yet
	above      = 2         // times the habit
	silence    = 24        // hours after which a breakout has ended by itself
	acceptFor  = keptHours // hours; what was done since then speaks for itself
)

// Why is how the reason begins for which a message of a breakout is held.
const Why = "breakout: "

// A Breakout is an identity that sends far more than it is used to. What it
// sends is held until the operator decides, or it was silent for a day.
type Breakout struct {
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"`
	Last  time.Time `json:"last,omitzero"` // when it last sent
}

// A watch is who has broken out, and what the operator has accepted.
type watch struct {
	Open     map[string]*Breakout `json:"open"`
	Accepted map[string]decided   `json:"accepted"` // habits
	Settled  map[string]decided   `json:"settled"`  // what was sent within an hour until it was decided on
}

type decided struct {
	Habit
	At time.Time `json:"at"`
}

func newWatch() watch {
	return watch{map[string]*Breakout{}, map[string]decided{}, map[string]decided{}}
}

func (h Habit) atLeast(o Habit) Habit {
	return Habit{max(h.Messages, o.Messages), max(h.Recipients, o.Recipients)}
}

// habit returns the busiest hour of who that counts.
func (m *Meter) habit(who string) Habit {
	h, ok := m.habits[who]
	if ok {
		return h
	}
	for at, s := range m.hours {
		if sums := s.by[Identity][who]; sums != nil && at <= m.now-sinceHabit && at >= m.now-keptHours {
			h = h.atLeast(Habit{sums.Messages - sums.Held, sums.Recipients - sums.HeldTo})
		}
	}
	if a, ok := m.watch.Accepted[who]; ok && hourOf(a.At) >= m.now-acceptFor {
		h = h.atLeast(a.Habit)
	}
	m.habits[who] = h
	return h
}

// thisHour returns what who has sent within the hour, without what the
// operator has decided on.
func (m *Meter) thisHour(who string) Habit {
	sums := m.current.by[Identity][who]
	if sums == nil {
		return Habit{}
	}
	if done, ok := m.watch.Settled[who]; ok && hourOf(done.At) == m.now {
		return Habit{sums.Messages - done.Messages, sums.Recipients - done.Recipients}
	}
	return Habit{sums.Messages, sums.Recipients}
}

// Judge says why a message of who to so many addresses is to be held: because
// it breaks out with it, or did before; "": it may leave. began: just now.
func (m *Meter) Judge(now time.Time, who string, recipients int64, floor Habit) (why string, began bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roll(now)
	if b := m.watch.Open[who]; b != nil {
		b.Last = now
		m.dirty[watchFile] = true
		return b.Why, false
	}
	sent := m.thisHour(who)
	sent.Messages++
	sent.Recipients += recipients
	if sent.Messages <= floor.Messages && sent.Recipients <= floor.Recipients {
		return "", false
	}
	habit := m.habit(who)
	switch {
	case sent.Messages > max(floor.Messages, above*habit.Messages):
		why = fmt.Sprintf(Why+"%d messages within the hour, and %d in its busiest of %d days", sent.Messages, habit.Messages, keptHours/24)
	case sent.Recipients > max(floor.Recipients, above*habit.Recipients):
		why = fmt.Sprintf(Why+"%d recipients within the hour, and %d in its busiest of %d days", sent.Recipients, habit.Recipients, keptHours/24)
	default:
		return "", false
	}
	m.watch.Open[who] = &Breakout{Who: who, Why: why, Since: now, Last: now}
	m.dirty[watchFile] = true
	return why, true
}

// Breakouts returns those that last, the oldest first.
func (m *Meter) Breakouts() []Breakout {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Breakout, 0, len(m.watch.Open))
	for _, b := range m.watch.Open {
		list = append(list, *b)
	}
	slices.SortFunc(list, func(a, b Breakout) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Who, b.Who)) })
	return list
}

// Decide ends a breakout by the operator's word. accept makes what was sent
// since it began the habit; otherwise all stays as it was.
func (m *Meter) Decide(now time.Time, who string, accept bool) (Breakout, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roll(now)
	b := m.watch.Open[who]
	if b == nil {
		return Breakout{}, false
	}
	delete(m.watch.Open, who)
	m.dirty[watchFile] = true
	if accept {
		var most Habit
		for h, s := range m.hours {
			if sums := s.by[Identity][who]; sums != nil && h >= hourOf(b.Since) {
				most = most.atLeast(Habit{sums.Messages, sums.Recipients})
			}
		}
		if sums := m.current.by[Identity][who]; sums != nil {
			most = most.atLeast(Habit{sums.Messages, sums.Recipients})
		}
		m.watch.Accepted[who] = decided{most, now}
	}
	delete(m.habits, who)
	if sums := m.current.by[Identity][who]; sums != nil {
		m.watch.Settled[who] = decided{Habit{sums.Messages, sums.Recipients}, startOf(m.now)}
	}
	return *b, true
}

// Silent ends the breakouts of those who have not sent for a day, and returns
// them. What was held stays so.
func (m *Meter) Silent(now time.Time) (ended []Breakout) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for who, b := range m.watch.Open {
		if now.Sub(b.Last) >= silence*time.Hour {
			ended = append(ended, *b)
			delete(m.watch.Open, who)
			m.dirty[watchFile] = true
		}
	}
	for _, old := range []struct {
		of    map[string]decided
		hours int64
	}{{m.watch.Accepted, acceptFor}, {m.watch.Settled, 1}} {
		for who, d := range old.of {
			if hourOf(d.At) < hourOf(now)-old.hours {
				delete(old.of, who)
				m.dirty[watchFile] = true
			}
		}
	}
	return ended
}
