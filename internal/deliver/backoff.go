package deliver

import (
	"time"

	"postern/internal/queue"
)

// steps are the waits after each attempt of a message; the last is repeated.
// Two attempts within the first hour, then at least half an hour between
// (RFC 5321 section 4.5.4.1): what is not gone after some minutes is greylisted
// or down, and neither likes to be asked every minute.
var steps = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

// again returns when a message is tried next after its n-th attempt. A fifth
// more or less keeps what failed together from coming back together.
func again(now time.Time, n int) time.Time {
	step := steps[min(max(n-1, 0), len(steps)-1)]
	return now.Add(time.Duration(float64(step) * (0.8 + 0.4*chance())))
}

// soon returns when a message is tried next that came to a server when that had
// too many connections: it doubles from two seconds on, up to the steps of all.
func soon(now time.Time, n int) time.Time {
	wait := 2 * time.Second << min(max(n-1, 0), 16)
	return now.Add(time.Duration(float64(min(wait, steps[len(steps)-1])) * (0.8 + 0.4*chance())))
}

// Lifetimes say how long deliveries are tried.
type Lifetimes struct {
	Message time.Duration // RFC 5321 section 4.5.4.1: four to five days
	Notice  time.Duration // of the null reverse-path: nobody waits for it
	Delay   time.Duration // after which who sent it is told once; negative: never

	// Withheld is for how long the operator may decide about a failure of which
	// nobody can be told; negative: for ever.
	Withheld time.Duration
}

// DefaultLifetimes are those of a relay for one organisation.
var DefaultLifetimes = Lifetimes{Message: 5 * 24 * time.Hour, Notice: 2 * 24 * time.Hour, Delay: 4 * time.Hour, Withheld: 7 * 24 * time.Hour}

func (l Lifetimes) withDefaults() Lifetimes {
	pick := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	pick(&l.Message, DefaultLifetimes.Message)
	pick(&l.Notice, DefaultLifetimes.Notice)
	pick(&l.Delay, DefaultLifetimes.Delay)
	pick(&l.Withheld, DefaultLifetimes.Withheld)
	return l
}

// end returns when a message is given up.
func (l Lifetimes) end(m *queue.Message) time.Time {
	switch {
	case !m.Expires.IsZero():
		return m.Expires
	case m.From.Null():
		return m.Origin.At.Add(l.Notice)
	}
	return m.Origin.At.Add(l.Message)
}
