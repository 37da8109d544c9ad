package queue

import (
	"context"
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
	// and are in the queue no more.
	Forget(ctx context.Context, before time.Time) error
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

// An EventKind says what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	Attempted EventKind = iota + 1 // one delivery was settled or put off
	WasHeld                        // Note says why
	WasReleased
	WasRetried // all that waited was made due at once
	WasDeleted // by the operator, who told nobody
)

// A Search tells lives apart. The zero value finds all; a life is found if it
// meets every field that is set.
type Search struct {
	From, To string    // as Filter has them; To is a recipient as it was accepted, or an address that it went to
	Address  string    // as From or as To
	Name     string    // the Message-ID, with or without its angle brackets
	Identity string    // who logged in, or the trusted client
	Since    time.Time // accepted at or after this
	Until    time.Time // accepted earlier than this
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
		s.Identity != "" && !strings.EqualFold(s.Identity, m.Origin.Identity):
		return false
	}
	return true
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
