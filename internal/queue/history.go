package queue

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/mail"
)

// A History remembers what became of messages: each for as long as it is in
// the queue, and until it is forgotten afterwards. What is remembered is
// committed together with what happened, so the two never disagree.
type History interface {
	// Life returns what is known of one message.
	Life(ctx context.Context, id string) (Life, error)
	// Find returns lives, the newest first. next is where the following page
	// begins; "": this is the last.
	Find(ctx context.Context, s Search, p Page) (list []Life, next string, err error)
	// Forget removes what is known of messages that were accepted before then
	// and are in the queue no more, and of the oldest of those beyond most. It
	// returns how many were removed for being too many.
	Forget(ctx context.Context, before time.Time, most int) (int, error)
}

// A Life is one message from its acceptance to its end, without its body.
type Life struct {
	Message Message   // as it is now, or as it was when it left the queue
	Done    time.Time // when it left the queue; zero: it is there
	Events  []Event   // in their order, after the acceptance
}

// An Event is one thing that happened to a message after it was accepted.
type Event struct {
	At    time.Time
	Kind  EventKind
	Which Which         // of Attempted
	State DeliveryState // of Attempted: what came of it
	Next  time.Time     // of Attempted, when it was put off: not before
	Reply mail.Reply
	Note  string
	Via   Via
}

// Events returns what happened by outcomes: of each whose next hop was asked,
// an attempt.
func Events(outcomes []Outcome) []Event {
	list := make([]Event, 0, len(outcomes))
	for _, o := range outcomes {
		if o.Untried {
			continue
		}
		e := Event{At: o.At, Kind: Attempted, Which: o.Which, State: o.State, Reply: o.Reply, Note: o.Note, Via: o.Via}
		if o.State == Waiting {
			e.Next = o.Next
		}
		list = append(list, e)
	}
	return list
}

// An EventKind says what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	Attempted EventKind = iota + 1 // one delivery was settled or put off
	WasHeld                        // Note says why
	WasReleased
	WasRetried // all that waited was made due at once; or, as Note says, its times were moved
	WasDeleted // by the operator, who told nobody; or for the reason in Note
)

// A Search tells lives apart. The zero value finds all; a life is found if it
// meets every field that is set.
type Search struct {
	From, To string     // as Filter has them; To is a recipient as it was accepted, or an address that it went to
	Address  string     // as From or as To
	Name     string     // the Message-ID, with or without its angle brackets
	Identity string     // who logged in, or the trusted client
	Peer     netip.Addr // from where it was accepted
	Since    time.Time  // accepted at or after this
	Until    time.Time  // accepted earlier than this
}

// Match reports whether m passes.
func (s *Search) Match(m *Message) bool {
	switch {
	case !s.Since.IsZero() && m.Origin.At.Before(s.Since),
		!s.Until.IsZero() && !m.Origin.At.Before(s.Until),
		s.From != "" && !sameAddress(s.From, m.From.String()),
		s.To != "" && !m.goesTo(s.To),
		s.Address != "" && !sameAddress(s.Address, m.From.String()) && !m.goesTo(s.Address),
		s.Name != "" && !strings.EqualFold(bare(s.Name), bare(m.Name)),
		s.Identity != "" && !strings.EqualFold(s.Identity, m.Origin.Identity),
		s.Peer.IsValid() && s.Peer != m.Origin.Peer:
		return false
	}
	return true
}

// Words returns by what a life is found, in one case and each once: addresses,
// the Message-ID, and who sent it.
func (m *Message) Words() []string {
	list := make([]string, 0, 8)
	list = append(list, word(m.From.String()))
	for i := range m.To {
		list = append(list, word(m.To[i].Grant.To))
		for j := range m.To[i].Goes {
			list = append(list, word(m.To[i].Goes[j].To.String()))
		}
	}
	if m.Name != "" {
		list = append(list, word(m.Name))
	}
	if m.Origin.Identity != "" {
		list = append(list, word(m.Origin.Identity))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Word returns one of the words of every life that passes, the one that the
// fewest are likely to have; "": no word is told, and all must be looked at.
func (s *Search) Word() string {
	for _, typed := range []string{s.Name, s.To, s.Address, s.From, s.Identity} {
		if typed != "" && !strings.HasPrefix(typed, "@") {
			return word(typed)
		}
	}
	return ""
}

// Parts returns texts of which each is a part of some text of every life that
// passes, in small letters. It is for who can look for them sooner than read a
// life.
func (s *Search) Parts() (list []string) {
	for _, typed := range []string{s.Name, s.To, s.Address, s.From, s.Identity} {
		if typed != "" {
			list = append(list, word(typed))
		}
	}
	return list
}

// word folds what is compared by sameAddress or without its brackets.
func word(s string) string {
	if s != "<>" {
		s = bare(s)
	}
	return strings.ToLower(s)
}

// goesTo reports whether a recipient was accepted as this, or goes to it.
func (m *Message) goesTo(typed string) bool {
	for _, r := range m.To {
		if sameAddress(typed, r.Grant.To) {
			return true
		}
		for _, d := range r.Goes {
			if sameAddress(typed, d.To.String()) {
				return true
			}
		}
	}
	return false
}

// bare takes the angle brackets off.
func bare(s string) string { return strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">") }
