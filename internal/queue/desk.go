package queue

import (
	"strings"
	"time"
)

// A Filter tells messages apart; the zero value passes all. A message passes
// if it meets every field that is set.
type Filter struct {
	From, To    string // "name@domain" as it is, "@domain" for all of a domain, "<>" for the null reverse-path
	Destination string // a domain that an unsettled delivery goes to
	Reason, Who string // of a grant, as policy.Record has them
	State       State
	Before      time.Time // received earlier than this
	After       time.Time // received at or after this
	Reply       string    // text of a last reply or note, in any case
}

// A Page is where a list begins and how long it may be.
type Page struct {
	After string // the last id that was seen; "" from the start
	Max   int    // 0: 100
}

// Size returns how many messages a page has at most.
func (p Page) Size() int {
	if p.Max <= 0 {
		return 100
	}
	return p.Max
}

// Match reports whether m, with its State filled in, passes.
func (f *Filter) Match(m *Message) bool {
	switch {
	case f.State != 0 && m.State != f.State,
		!f.Before.IsZero() && !m.Origin.At.Before(f.Before),
		!f.After.IsZero() && m.Origin.At.Before(f.After),
		f.From != "" && !sameAddress(f.From, m.From.String()):
		return false
	}
	return f.To == "" && f.Destination == "" && f.Reason == "" && f.Who == "" && f.Reply == "" || f.anyRecipient(m)
}

// anyRecipient reports whether one recipient meets all that is said of one.
func (f *Filter) anyRecipient(m *Message) bool {
	for _, r := range m.To {
		if f.Reason != "" && r.Grant.Reason != f.Reason || f.Who != "" && r.Grant.Who != f.Who {
			continue
		}
		accepted := f.To == "" || sameAddress(f.To, r.Grant.To)
		for _, d := range r.Goes {
			if (accepted || sameAddress(f.To, d.To.String())) &&
				(f.Destination == "" || !d.State.Settled() && d.Destination() == f.Destination) &&
				(f.Reply == "" || contains(d.Reply.String(), f.Reply) || contains(d.Note, f.Reply)) {
				return true
			}
		}
	}
	return false
}

// sameAddress compares what a person typed with a path or an address. Case
// makes no difference: who looks for mail must not have to know how it was written.
func sameAddress(typed, path string) bool {
	if path != "<>" {
		path = strings.TrimSuffix(strings.TrimPrefix(path, "<"), ">")
	}
	if strings.HasPrefix(typed, "@") {
		return len(path) > len(typed) && strings.EqualFold(path[len(path)-len(typed):], typed)
	}
	return strings.EqualFold(typed, path)
}

func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// A Change is what may be changed of a message that waits. A nil field stays.
type Change struct {
	Expires *time.Time // when to give up; zero: as the deliverer does for all
	Lane    *Lane
}

// Stats are sums over a queue.
type Stats struct {
	Messages map[State]int
	Octets   int64     // of all bodies
	Oldest   time.Time // when the oldest message was received; zero: there is none
	Corrupt  int       // records that were moved aside: they are no messages
}

// A Destination is what waits for one domain.
type Destination struct {
	Name     string
	Messages int       // for which anything is not settled
	Active   int       // of these leased now
	Held     int       // of these for the operator
	Oldest   string    // the id of the oldest
	Next     time.Time // of those that wait and are not leased, the first; zero: none
	Reply    string    // the last reply or note of an attempt
	ReplyAt  time.Time
}
