package serve

import (
	"context"
	"crypto/rand"
	"io"
	"net/netip"
	"sync"

	"postern/guard"
	"postern/mail"
	"postern/policy"
)

// postmasters know the one mailbox that every domain has.
type postmasters struct{}

func (postmasters) Exists(_ context.Context, a mail.Address) (bool, error) {
	return a.Local() == "postmaster", nil
}

// Offers knows of no next hop.
func (postmasters) Offers(mail.Domain) (guard.Offer, bool) { return guard.Offer{}, false }

// An inbox is the intake of one audit: what a stranger got through to a
// foreign domain is a breach.
type inbox struct {
	g      *generation
	l      Listener
	from   netip.Addr
	ours   mail.Domain // a domain of ours, to ask for
	domain mail.Domain // the stranger's own
	secret [32]byte

	mu      sync.Mutex
	audited Audited
}

func newInbox(g *generation, l Listener, from netip.Addr) *inbox {
	in := &inbox{g: g, l: l, from: from, ours: g.settings.Policy.Hostname}
	if len(g.settings.Policy.Domains) > 0 {
		in.ours = g.settings.Policy.Domains[0].Name
	}
	in.domain = g.policy.Foreign()
	_, _ = rand.Read(in.secret[:]) // never fails (crypto/rand)
	return in
}

// Put notes where the message would go.
func (in *inbox) Put(_ context.Context, letter policy.Letter, body io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, body)
	if err != nil {
		return n, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.audited.Taken++
	for _, a := range letter.To {
		for _, goes := range a.Grant.Goes() {
			if goes.From.IsZero() && !in.g.policy.Ours(goes.To.Domain()) {
				in.breach(a.Grant, goes.To)
			}
		}
	}
	return n, nil
}

func (in *inbox) breach(g policy.Grant, to mail.Address) {
	in.audited.Breaches = append(in.audited.Breaches, Breach{Listener: in.l.Name, From: in.from, To: to.String(), Grant: g.String(), At: g.Origin()})
}

// Room is always there: nothing is kept.
func (in *inbox) Room(int64) error { return nil }

func (in *inbox) Spare(int64) error { return nil }

func (in *inbox) result() Audited {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.audited
}
