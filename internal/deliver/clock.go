package deliver

import (
	"time"
)

// leastStep is by how much a clock must be set that anything follows from it:
// what is less, waits no longer than people notice.
const leastStep = time.Minute

// A clock knows when somebody set the machine's clock: it then parts from how
// long the machine has run.
type clock struct {
	running func() time.Duration
	wall    time.Time
	ran     time.Duration
}

func newClock(running func() time.Duration) *clock {
	if running == nil {
		start := time.Now()
		running = func() time.Duration { return time.Since(start) }
	}
	c := &clock{running: running}
	c.wall, c.ran = c.read()
	return c
}

// read returns what the clock on the wall shows, and how long the machine ran
// until then.
func (c *clock) read() (wall time.Time, ran time.Duration) {
	for {
		before := c.running()
		wall, ran = time.Now().Round(0), c.running() // Round(0): without the monotonic reading
		if ran-before < leastStep/10 {
			return wall, ran
		} // the machine slept between the two
	}
}

// step returns by how much the clock was set since it was asked last, or 0.
func (c *clock) step() time.Duration {
	wall, ran := c.wall, c.ran
	c.wall, c.ran = c.read()
	if by := c.wall.Sub(wall) - (c.ran - ran); by.Abs() >= leastStep {
		return by
	}
	return 0
}
