package collect

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/smtp"
	"postern/verdict"
)

// A session is one peer's conversation with the collector.
type session struct {
	local *Local
	peer  *smtp.Peer
	nonce string

	from string // in its brackets, or as it came
	null bool
	to   []addressee
	name *ptr
}

// An addressee is a recipient that was accepted, and its token.
type addressee struct {
	token plan.Token
	text  string // as seen
}

// Connect greets with a nonce of the session's own.
func (l *Local) Connect(_ context.Context, p *smtp.Peer) (smtp.Session, mail.Reply) {
	s := &session{local: l, peer: p, nonce: l.keys.newNonce(time.Now())}
	greeting := plan.Banner{Domain: l.c.Domain.ASCII(), Nonce: s.nonce, Peer: p.Remote.Addr()}
	return s, mail.NewReply(220, "", greeting.String())
}

func (s *session) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }

func (s *session) Mail(_ context.Context, from mail.ReversePath, _ mail.SenderParams) mail.Reply {
	s.from, s.null = from.String(), from.Null()
	return mail.Reply{}
}

// MailRaw takes a sender that no parser understands: it is what a relay made
// of the probe's, and it is recorded as it is.
func (s *session) MailRaw(_ context.Context, raw string) mail.Reply {
	s.from, s.null = raw, inBrackets(raw) == ""
	return mail.NewReply(250, "2.1.0", "sender noted as it stands")
}

func (s *session) Rcpt(_ context.Context, to mail.ForwardPath, _ mail.RecipientParams) mail.Reply {
	return s.rcpt(to.String())
}

// RcptRaw takes what is left of an address after a relay has worked on it, if
// its token is alive.
func (s *session) RcptRaw(_ context.Context, raw string) mail.Reply { return s.rcpt(raw) }

func (s *session) rcpt(text string) mail.Reply {
	l := s.local
	live, expired := l.keys.find(text, time.Now())
	switch {
	case len(live) == 0 && expired:
		return mail.NewReply(550, "5.7.1", "this token has expired; run the check again")
	case len(live) == 0:
		return mail.Reply{Code: 550, Enhanced: mail.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, Lines: l.refusal()}
	case !l.ours.has(domainOf(text), s.peer.Local.Addr()):
		return mail.NewReply(550, "5.7.1", "the token is ours, the domain is not; we relay for nobody")
	case l.store.full(live[0]):
		return mail.NewReply(550, "5.7.1", fmt.Sprintf("this token has arrived %d times already", l.store.keep.PerToken))
	}
	s.to = append(s.to, addressee{live[0], text})
	if s.name == nil {
		s.name = l.lookUp(s.peer.Remote.Addr())
	}
	return mail.NewReply(250, "2.1.5", "token accepted")
}

// refusal is what everybody else hears.
func (l *Local) refusal() []string {
	lines := []string{"this host takes only the probes of its own relay tests, and relays nothing"}
	if l.c.Contact != "" {
		lines = append(lines, l.c.Contact)
	}
	return lines
}

func (s *session) Data(_ context.Context, body io.Reader) mail.Reply {
	l, now := s.local, time.Now()
	d, err := digestOf(body, l.keys, now)
	if err != nil {
		return mail.Reply{}
	}
	for _, to := range s.to {
		l.take(s.arrival(to, d, now), s.name)
	}
	return mail.NewReply(250, "2.0.0", "arrival recorded")
}

func (s *session) arrival(to addressee, d digest, now time.Time) verdict.Arrival {
	a := verdict.Arrival{
		Tokens: []plan.Token{to.token}, At: now.UTC(), Peer: s.peer.Remote, Helo: s.peer.Helo,
		TLS: tlsText(s.peer.TLS), ReversePath: s.from, ForwardPath: to.text,
		Header: d.header, BodyHash: d.hash, Size: d.size, Nonce: s.nonce, Seen: verdict.SeenByPeer,
	}
	for _, t := range d.tokens {
		if t != to.token {
			a.Tokens = append(a.Tokens, t)
		}
	}
	a.Kind = kindOf(s.null, to.text, to.token, a.Fields(), d.report, func(text string) bool {
		live, _ := s.local.keys.find(text, now)
		return len(live) > 0
	})
	return a
}

func (s *session) Reset() { s.from, s.null, s.to = "", false, nil }

func (s *session) Close(error) {}

func tlsText(state *tls.ConnectionState) string {
	if state == nil {
		return ""
	}
	return strings.TrimSpace(tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite))
}
