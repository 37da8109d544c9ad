package resolve

import (
	"container/list"
	"sync"
	"time"
)

// How long an answer is believed, whatever its TTL says.
const (
	maxTTL = 24 * time.Hour
	// RFC 2308 section 5: one to three hours work well as a maximum.
	maxNegativeTTL = 3 * time.Hour
	// RFC 9520 section 3.2: a failure is remembered for a second at least, so
	// that many callers do not ask a broken server at once, and five minutes at most.
	failureTTL = 2 * time.Second
)

// An answer is what the servers said to one question, and for how long it holds.
type answer struct {
	records records
	err     error
	ttl     time.Duration // zero: not kept
}

// A cache keeps answers until they expire; when it is full the one that was
// not used for longest makes room.
type cache struct {
	mu      sync.Mutex
	limit   int
	entries map[question]*list.Element
	used    *list.List // of entry, the latest used first
}

type entry struct {
	question question
	answer   answer
	expires  time.Time
}

func newCache(limit int) *cache {
	return &cache{limit: limit, entries: map[question]*list.Element{}, used: list.New()}
}

func (c *cache) get(q question, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[q]
	if !ok {
		return answer{}, false
	}
	e, _ := el.Value.(entry)
	if !now.Before(e.expires) {
		c.drop(el)
		return answer{}, false
	}
	c.used.MoveToFront(el)
	return e.answer, true
}

func (c *cache) put(q question, a answer, now time.Time) {
	if a.ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[q]; ok {
		c.drop(el)
	}
	for len(c.entries) >= c.limit {
		c.drop(c.used.Back())
	}
	c.entries[q] = c.used.PushFront(entry{q, a, now.Add(a.ttl)})
}

func (c *cache) drop(el *list.Element) {
	e, _ := c.used.Remove(el).(entry)
	delete(c.entries, e.question)
}
