package serve

import (
	"time"

	"postern/internal/queue"
	"postern/policy"
)

// A QueuedMessage is a message of the queue as it is shown.
type QueuedMessage struct {
	ID       string        `json:"id"`
	State    string        `json:"state"`
	Hold     string        `json:"hold,omitempty"`
	Accepted time.Time     `json:"accepted"`
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
	Grant policy.Record    `json:"grant"`
	Goes  []QueuedDelivery `json:"goes"`
}

// A QueuedDelivery is one address that a recipient's message goes to.
type QueuedDelivery struct {
	To       string    `json:"to"`
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next,omitzero"`
	Last     string    `json:"last,omitempty"` // the last reply or note
}

func view(m *queue.Message) QueuedMessage {
	v := QueuedMessage{
		ID: m.ID, State: m.State.String(), Hold: m.Hold, Accepted: m.Origin.At, From: m.From.String(), Size: m.Size,
		Listener: m.Origin.Listener, Helo: m.Origin.Helo, Identity: m.Origin.Identity, TLS: m.Origin.TLS,
	}
	if m.Origin.Peer.IsValid() {
		v.Peer = m.Origin.Peer.String()
	}
	for _, to := range m.To {
		g := QueuedGrant{Grant: to.Grant}
		for _, d := range to.Goes {
			q := QueuedDelivery{To: d.To.String(), State: d.State.String(), Attempts: d.Attempts, Next: d.Next, Last: d.Note}
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
