package serve

import (
	"context"
	"crypto/rand"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/probe"
	"postern/transcript"
)

// A stranger plays the whole battery against one listener: the forms of
// `postern check`, by the same probe, without its politeness.
type stranger struct {
	inbox  *inbox
	probe  probe.SMTP
	played int
}

// battery plays every form that applies, in sessions encrypted like that.
func (s *stranger) battery(ctx context.Context, tls probe.TLS) error {
	p := s.probe
	p.TLS = tls
	var shared []probe.Play
	for _, f := range plan.Forms() {
		play, ok := s.play(f)
		switch {
		case !ok:
		case f.Move.Name == "":
			shared = append(shared, play)
		default:
			x, err := p.PlayAlone(ctx, play)
			if err == nil && !x.Reply.IsZero() {
				s.played++
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	for len(shared) > 0 {
		n, answered := s.together(ctx, p, shared)
		s.played += answered
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		shared = shared[max(n, 1):]
	}
	return nil
}

// together plays forms in one session. It returns how many are done with, and
// how many of them were answered.
func (s *stranger) together(ctx context.Context, p probe.SMTP, plays []probe.Play) (done, answered int) {
	v, err := p.Open(ctx, &transcript.Transcript{})
	if err != nil {
		return len(plays), 0 // nobody at this address is served at all
	}
	defer v.Close()
	if v.TurnedAway() != nil {
		return len(plays), 0
	}
	played, err := v.Play(ctx, plays)
	if err != nil && len(played) < len(plays) {
		return len(played) + 1, len(played) + 1 // the form that ended the session has had its answer
	}
	return len(played), len(played)
}

// play makes a form ready; false when it needs a fact that this relay has not.
func (s *stranger) play(f plan.Form) (probe.Play, bool) {
	var nonce [5]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	token := plan.Mint(s.inbox.secret[:], nonce, time.Now().Add(time.Hour))
	to, err := mail.NewAddress(string(token), s.inbox.domain)
	if err != nil {
		return probe.Play{}, false
	}
	local, err := mail.NewAddress("postmaster", s.inbox.ours)
	if err != nil {
		return probe.Play{}, false
	}
	e, missing := f.Expand(plan.Facts{
		Addr: s.probe.Addr.Addr(), Host: s.inbox.g.settings.Policy.Hostname, Domain: s.inbox.ours, Local: local,
		RelayDomain: s.inbox.ours, Backup: s.inbox.domain, Collector: s.inbox.domain, CollectorIP: s.inbox.from,
	}, token, to)
	return probe.Play{
		Form: f, Envelope: e, Token: token, Local: local,
		Message: probe.Message{Token: token, Form: f.ID, From: to, Recipient: to, Target: s.inbox.l.Name, Date: time.Now()},
	}, len(missing) == 0
}
