package serve

import (
	"time"

	"postern/internal/queue"
)

// A QueuedDestination is what waits for one domain.
type QueuedDestination struct {
	Destination string    `json:"destination"` // "": the bare <postmaster>
	Messages    int       `json:"messages"`
	Active      int       `json:"active"`
	Held        int       `json:"held"`
	OldestID    string    `json:"oldest_id"`
	Oldest      time.Time `json:"oldest,omitzero"` // when it was accepted
	Next        time.Time `json:"next,omitzero"`   // when something is due first
	Reply       string    `json:"reply,omitempty"` // the last
	ReplyAt     time.Time `json:"reply_at,omitzero"`
}

// A QueuedMessage is a message of the queue as it is shown.
type QueuedMessage struct {
	ID       string        `json:"id"`
	State    string        `json:"state"`
	Hold     string        `json:"hold,omitempty"`
	Reason   string        `json:"reason,omitempty"` // why it is still here: why it is held, or what was said last
	Accepted time.Time     `json:"accepted,omitzero"`
	From     string        `json:"from"`
	Size     int64         `json:"size"`
	Listener string        `json:"listener"`
	Peer     string        `json:"peer"`
	Helo     string        `json:"helo,omitempty"`
	Identity string        `json:"identity,omitempty"`
	TLS      string        `json:"tls,omitempty"`
	To       []QueuedGrant `json:"to"`
}

// A QueuedGrant is one recipient of it, why it was accepted, and how far each
// of its deliveries is.
type QueuedGrant struct {
	Grant QueuedReason     `json:"grant"`
	Goes  []QueuedDelivery `json:"goes"`
}

// A QueuedReason is the grant by which a recipient was accepted.
type QueuedReason struct {
	Reason   string `json:"reason"` // authenticated, trusted_client, inbound
	Who      string `json:"who,omitempty"`
	To       string `json:"to"`
	From     string `json:"from"`
	Listener string `json:"listener,omitempty"`
	Addr     string `json:"addr,omitempty"`
	TLS      bool   `json:"tls"`
	At       string `json:"at,omitempty"` // the line that granted it
	Policy   string `json:"policy,omitempty"`
}

// A QueuedDelivery is one address that a recipient's message goes to.
type QueuedDelivery struct {
	To       string    `json:"to"`
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next,omitzero"`
	Last     string    `json:"last,omitempty"` // the last reply or note
	Waits    *Wait     `json:"waits,omitempty"`
}

func view(m *queue.Message, s standing, now time.Time) QueuedMessage {
	v := QueuedMessage{
		ID: m.ID, State: m.State.String(), Hold: m.Hold, Reason: reason(m), Accepted: m.Origin.At, From: m.From.String(), Size: m.Size,
		Listener: m.Origin.Listener, Helo: m.Origin.Helo, Identity: m.Origin.Identity, TLS: m.Origin.TLS,
	}
	if m.Origin.Peer.IsValid() {
		v.Peer = m.Origin.Peer.String()
	}
	for _, to := range m.To {
		t := &to.Grant
		g := QueuedGrant{Grant: QueuedReason{
			Reason: t.Reason, Who: t.Who, To: t.To, From: t.From, Listener: t.Listener, Addr: t.Addr, TLS: t.TLS, At: t.Origin, Policy: t.Policy,
		}}
		for _, d := range to.Goes {
			q := QueuedDelivery{To: d.To.String(), State: d.State.String(), Attempts: d.Attempts, Next: d.Next, Last: d.Note, Waits: s.wait(m, &d, now)}
			if !d.Reply.IsZero() {
				q.Last = d.Reply.String()
			}
			g.Goes = append(g.Goes, q)
		}
		v.To = append(v.To, g)
	}
	return v
}

// AcceptedAt returns when the message of an id was begun; zero for no id.
func AcceptedAt(id string) time.Time { return queue.TimeOf(id) }
