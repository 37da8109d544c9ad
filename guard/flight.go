package guard

import (
	"errors"
	"sync/atomic"

	"postern/mail"
)

// Flight is the memory that messages take while they come in: strangers can
// hold as much of it as there are connections, by stopping in the middle. Its
// field must not change once it is used; the zero Flight has no limit.
type Flight struct {
	Most  int64 // octets
	taken atomic.Int64
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

// take takes n octets, or reports that there are not so many.
func (f *Flight) take(n int64, stranger bool) bool {
	most := f.Most
	if stranger {
		most = most * strangersFlight / 100
	}
	if now := f.taken.Add(n); f.Most > 0 && now > most {
		f.taken.Add(-n)
		return false
	}
	return true
}

func (f *Flight) give(n int64) { f.taken.Add(-n) }

// takesOff takes memory for a message, or for more of it.
func (v *session) takesOff(n int64) bool {
	if !v.server.State.Flight.take(n, v.stranger()) {
		return false
	}
	v.flies += n
	return true
}

// lands gives it back.
func (v *session) lands() {
	v.server.State.Flight.give(v.flies)
	v.flies = 0
}
