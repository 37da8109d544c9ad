package queue

import (
	"slices"
	"time"

	"postern/mail"
	"postern/policy"
)

// A Message is what is kept of a letter, without its body.
type Message struct {
	ID      string
	From    mail.ReversePath
	Params  mail.SenderParams
	Origin  Origin
	Size    int64  // of the body, in octets
	Name    string // its Message-ID, with the angle brackets; "": it has none
	To      []Recipient
	Hold    string    // why the operator must look; "": it may leave
	Expires time.Time // when to give up; zero: as the deliverer does for all
	Lane    Lane
	State   State // in List and Show: what it does now
}

// A Recipient is one that was accepted, with the record of its grant.
type Recipient struct {
	Grant  policy.Record
	Params mail.RecipientParams
	Goes   []Delivery // one at least
}

// A Delivery is one address that a recipient's message goes to: the recipient
// itself, or one of those that an alias stands for.
type Delivery struct {
	To       mail.Address     // its domain is zero of the bare <postmaster> only
	From     mail.ReversePath // instead of the message's; zero: as given
	State    DeliveryState
	Attempts int
	Next     time.Time  // not before; zero: at once
	At       time.Time  // of the last attempt; zero: none
	Reply    mail.Reply // the last; zero: none was given
	Note     string     // what happened, where no reply says it
}

// Destination returns the key by which deliveries are leased and counted: the
// domain in A-labels and lower case; "" of the bare <postmaster>, which is ours.
func (d Delivery) Destination() string { return d.To.Domain().ASCII() }

// A DeliveryState is how far a delivery is.
type DeliveryState uint8

// The states of a delivery. The last two are for good.
const (
	Waiting   DeliveryState = iota // for its first or next attempt
	Withheld                       // its grant was lost: the operator decides
	Delivered                      // a next hop took it
	Failed                         // it was given up
)

// Settled reports a state that is for good.
func (s DeliveryState) Settled() bool { return s == Delivered || s == Failed }

// String returns the state as lists show it.
func (s DeliveryState) String() string {
	return [...]string{Waiting: "waiting", Withheld: "withheld", Delivered: "delivered", Failed: "failed"}[s]
}

// A State is what a message does now.
type State uint8

// The states of a message.
const (
	Fresh    State = iota + 1 // no attempt was made yet, and one is due
	Active                    // leased: being delivered
	Deferred                  // waiting for its next attempt: it was tried, or its destination is left alone
	Held                      // for the operator
)

var stateNames = [...]string{Fresh: "fresh", Active: "active", Deferred: "deferred", Held: "held"}

// String returns the state as lists and metrics write it.
func (s State) String() string { return stateNames[s] }

// ParseState reads a state as String writes it.
func ParseState(s string) (State, bool) {
	for state, name := range stateNames {
		if s == name && name != "" {
			return State(state), true
		}
	}
	return 0, false
}

// States returns all states in their order.
func States() []State { return []State{Fresh, Active, Deferred, Held} }

// A Lane is which of a destination's mail goes first. Each lane has its share,
// so none starves: of seven leases of a busy destination four are of the first
// lane that waits, two of the second, one of the third.
type Lane uint8

// The lanes. A message that was deferred waits in Bulk: new mail goes before
// retries (one dead mailbox must not delay the rest of its domain).
const (
	Normal Lane = iota
	Urgent
	Bulk
)

// String returns the lane as lists show it.
func (l Lane) String() string {
	return [...]string{Normal: "normal", Urgent: "urgent", Bulk: "bulk"}[l]
}

// New returns the message that a letter becomes. Each recipient must hold a
// grant that says where it goes; otherwise ErrNoGrant.
func New(l Letter) (Message, error) {
	if _, err := ParseID(l.ID); err != nil {
		return Message{}, err
	}
	m := Message{ID: l.ID, From: l.From, Params: l.Params, Origin: l.Origin, Name: l.Name, Hold: l.Hold, To: make([]Recipient, len(l.To))}
	if l.From.Null() || l.Bulk {
		m.Lane = Bulk // notices, too, wait behind mail that somebody wrote
	}
	for i, a := range l.To {
		if a.Grant.IsZero() || len(a.Grant.Goes()) == 0 {
			return Message{}, ErrNoGrant
		}
		r := Recipient{Grant: a.Grant.Record(), Params: a.Params, Goes: make([]Delivery, len(a.Grant.Goes()))}
		for j, g := range a.Grant.Goes() {
			r.Goes[j] = Delivery{To: g.To, From: g.From}
		}
		m.To[i] = r
	}
	if len(m.To) == 0 {
		return Message{}, ErrNoGrant
	}
	return m, nil
}

// Left returns how many deliveries are not settled for good.
func (m *Message) Left() int {
	n := 0
	for _, r := range m.To {
		for _, d := range r.Goes {
			if !d.State.Settled() {
				n++
			}
		}
	}
	return n
}

// Strangers reports whether strangers alone answer for a message: it was taken
// for the sake of those to whom it goes.
func (m *Message) Strangers() bool {
	return m.Origin.Listener != "" && !slices.ContainsFunc(m.To, func(r Recipient) bool { return r.Grant.Reason != policy.Inbound.String() })
}

// Rest returns the state of a message of which nothing is leased.
func (m *Message) Rest() State {
	tried, waiting := false, false
	for _, r := range m.To {
		for _, d := range r.Goes {
			waiting = waiting || d.State == Waiting
			tried = tried || d.Attempts > 0 || d.State == Waiting && !d.Next.IsZero()
		}
	}
	switch {
	case m.Hold != "" || !waiting:
		return Held
	case tried:
		return Deferred
	default:
		return Fresh
	}
}
