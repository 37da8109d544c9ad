package guard

import (
	"errors"
	"sync"
	"sync/atomic"

	"postern/mail"
)

// Flight is the memory that messages take while they come in: strangers can
// hold as much of it as there are connections, by stopping in the middle. Its
// field must not change once it is used; the zero Flight has no limit.
type Flight struct {
	Most  int64 // octets
	taken atomic.Int64

	mu       sync.Mutex
	networks map[string]int64 // what strangers of each network hold
}

// What a message takes: a piece of it on its way to the disk, and, for each step
// by which its header grows, the text, its fields and what is written of them.
const (
	flightBase   = 160 << 10
	headerStep   = 16 << 10
	flightHeader = 3 * headerStep
)

// strangersFlight is the part that strangers may have, in hundredths: the rest
// is for our own people.
const strangersFlight = 75

var errShort = errors.New("no memory for the message")

func replyShort() mail.Reply {
	return mail.NewReply(452, "4.3.1", "Short of memory just now; try again in a minute")
}

// networkFlight is the part of what strangers may have that one network may
// hold, in hundredths: a customer of a provider must not keep out all others.
// Whatever the memory, a network may hold a few messages.
const (
	networkFlight = 20
	leastFlight   = 4 * (flightBase + 2*flightHeader)
)

// take takes n octets for a stranger of a network, or for our own people, of
// whom network is "". It reports that there are not so many.
func (f *Flight) take(n int64, network string) bool {
	most := f.Most
	if network != "" {
		most = most * strangersFlight / 100
		if !f.hold(network, n, max(most*networkFlight/100, leastFlight)) {
			return false
		}
	}
	if now := f.taken.Add(n); f.Most > 0 && now > most {
		f.taken.Add(-n)
		f.release(network, n)
		return false
	}
	return true
}

func (f *Flight) hold(network string, n, most int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.networks == nil {
		f.networks = map[string]int64{}
	}
	if f.Most > 0 && f.networks[network]+n > most {
		return false
	}
	f.networks[network] += n
	return true
}

func (f *Flight) release(network string, n int64) {
	if network == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.networks[network] -= n; f.networks[network] <= 0 {
		delete(f.networks, network)
	}
}

func (f *Flight) give(n int64, network string) {
	f.taken.Add(-n)
	f.release(network, n)
}

// takesOff takes memory for a message, or for more of it.
func (v *session) takesOff(n int64) bool {
	if v.flies == 0 {
		if v.fliesFor = ""; v.stranger() {
			v.fliesFor = networkOf(v.addr)
		}
	}
	if !v.server.State.Flight.take(n, v.fliesFor) {
		return false
	}
	v.flies += n
	return true
}

// lands gives it back.
func (v *session) lands() {
	v.server.State.Flight.give(v.flies, v.fliesFor)
	v.flies = 0
}
