package queue

import (
	"fmt"
	"net/netip"
	"time"

	"postern/mail"
)

// An Ask says what somebody who delivers would like to have.
type Ask struct {
	Owner  string    // who: named in the lease
	Now    time.Time // what is due by then
	Until  time.Time // when the lease ends by itself
	Max    int       // leases at most
	Each   int       // of one destination at most; 0: no limit
	Only   []string  // these destinations; none: all
	Except []string  // but not these: those at their limit
}

// A Lease is one message for one destination, given to one owner until it is
// settled, returned or over. Deliveries of the message to other destinations
// are leased by themselves.
type Lease struct {
	Owner       string
	Token       uint64 // tells this lease from an earlier one
	Until       time.Time
	Destination string
	Message     Message
	Which       []Which // the deliveries that are leased, in order
}

// Which names one delivery of a message: m.To[w.Recipient].Goes[w.Index].
type Which struct{ Recipient, Index int }

// Delivery returns the delivery that w names. It must be one of m's.
func (m *Message) Delivery(w Which) *Delivery { return &m.To[w.Recipient].Goes[w.Index] }

// Has reports whether w names a delivery of m.
func (m *Message) Has(w Which) bool {
	return w.Recipient >= 0 && w.Recipient < len(m.To) && w.Index >= 0 && w.Index < len(m.To[w.Recipient].Goes)
}

// An Outcome is what became of one delivery.
type Outcome struct {
	Which
	State DeliveryState // Waiting: deferred; or Withheld, Delivered, Failed
	At    time.Time     // of the attempt
	Next  time.Time     // of Waiting: not before
	Reply mail.Reply    // zero: none was given
	Note  string        // what happened, where no reply says it
	Via   Via

	// Untried says that nobody was asked: it is no attempt, and the history has
	// nothing of it.
	Untried bool
}

// A Via is by whom a delivery went, or did not.
type Via struct {
	Host string         // the name of the next hop; "": none was reached
	Addr netip.AddrPort // zero: it has none, or none was reached
	TLS  string         // "TLS 1.3 verified"; "": in clear
	Took time.Duration  // of the attempt
}

// Apply writes outcomes into m. Of a delivery that is settled already, or that
// m does not have, it returns an error and changes nothing.
func (m *Message) Apply(outcomes []Outcome) error {
	for _, o := range outcomes {
		if !m.Has(o.Which) || m.Delivery(o.Which).State != Waiting {
			return fmt.Errorf("message %s has no waiting delivery %d of recipient %d", m.ID, o.Index, o.Recipient)
		}
		if o.State > Failed {
			return fmt.Errorf("message %s: there is no state %d of a delivery", m.ID, o.State)
		}
	}
	for _, o := range outcomes {
		d := m.Delivery(o.Which)
		d.State, d.At, d.Reply, d.Note, d.Next = o.State, o.At, o.Reply, o.Note, time.Time{}
		if o.State == Waiting {
			d.Next = o.Next
		}
		if o.State != Withheld && !o.Untried { // somebody was asked
			d.Attempts++
		}
	}
	return nil
}
