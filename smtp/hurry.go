package smtp

import (
	"errors"
	"time"
)

// Where most places are taken, a stranger must be quick: who only holds a place
// would hold it for minutes, and cost its owner nothing. RFC 5321 section
// 4.5.3.2 has its minutes for servers that are not attacked. Waits are looked
// at again after lookAgain, so that those that began before the crowd end too.
const (
	lookAgain       = 10 * time.Second // between two looks at a wait; a stranger's wait in a crowd
	crowdedBarren   = 2 * time.Minute  // of a stranger's session without a message
	crowdedNothings = 10               // commands that lead nowhere
)

var errBarren = errors.New("a session without a message")

// pressed reports that this client holds a place that others need.
func (c *connection) pressed() bool {
	return c.stranger && c.peer.Identity == "" && c.server.census().crowded(c.limits)
}

// hurried says why a wait for a command ends before its time; nil: it goes on.
func (c *connection) hurried() error {
	switch {
	case c.server.retired.Load() != nil && !c.open:
		return errStopped
	case c.pressed():
		return ErrTimeout
	case c.barren():
		return errBarren
	}
	return nil
}

// barren reports that the session was there for long, and brought nothing.
func (c *connection) barren() bool {
	most, nothings := c.limits.Barren, c.limits.Fruitless
	if c.pressed() {
		most, nothings = least(most, crowdedBarren), least(nothings, crowdedNothings)
	}
	return over(time.Since(c.since), most) || over(c.fruitless, nothings)
}

// retireFor is how long a session that always has something to say goes on
// under a server that was replaced.
const retireFor = 10 * time.Minute

// outlived reports that a session is to go on with the next server.
func (c *connection) outlived() bool {
	since := c.server.retired.Load()
	return since != nil && !c.open && time.Since(*since) > retireFor
}

// least returns the lesser of two limits, of which a may be none.
func least[T ~int | ~int64](a, b T) T {
	if a < 0 {
		return b
	}
	return min(a, b)
}

// fruitful notes that the session brought what it is there for.
func (c *connection) fruitful() { c.since, c.fruitless = time.Now(), 0 }
