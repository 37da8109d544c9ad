package meter

import "time"

// Rates are what happens in a second now.
type Rates struct {
	In       float64 `json:"in"`  // messages accepted
	Out      float64 `json:"out"` // deliveries
	Deferred float64 `json:"deferred"`
	Failed   float64 `json:"failed"`
}

// over is how many seconds rates are a mean of: fewer flicker, more hide what
// an operator has just done.
const over = 10

const ring = over + 2 // and the second that lasts

// A second is what was counted within one.
type second struct {
	at                        int64 // in Unix time
	in, out, deferred, failed int64
}

func (m *Meter) second(now time.Time, s *Sums) {
	at := now.Unix()
	slot := &m.seconds[at%ring]
	if slot.at != at {
		*slot = second{at: at}
	}
	slot.in += s.Messages
	slot.out += s.Delivered
	slot.deferred += s.Deferred
	slot.failed += s.Failed
}

// Rates returns the means over the ten seconds before the one that lasts.
func (m *Meter) Rates(now time.Time) (r Rates) {
	at := now.Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.seconds {
		if s.at < at && s.at >= at-over {
			r.In += float64(s.in) / over
			r.Out += float64(s.out) / over
			r.Deferred += float64(s.deferred) / over
			r.Failed += float64(s.failed) / over
		}
	}
	return r
}
