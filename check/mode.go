package check

import (
	"context"
	"errors"
	"time"

	"postern/probe"
	"postern/smtp"
)

// How sessions with a server are made where the usual way is not its way: what
// is found out at the first sessions holds for the whole battery.

// heldBanner is how long the first banner is waited for before other ways are
// tried beside: servers hold it back for up to ten seconds, to see who cannot
// wait.
const heldBanner = 12 * time.Second

func (p *port) bannerPatience() time.Duration {
	if p.o.Timeout > 0 {
		return min(heldBanner, p.o.Timeout/2)
	}
	return heldBanner
}

// sayHelo opens a session with HELO (RFC 5321 section 3.2) where the server
// greeted, and hung up or fell silent at EHLO. It returns nil where that is
// not so or no better.
func (p *port) sayHelo(ctx context.Context, s probe.SMTP, v *probe.Visit, err error) *probe.Visit {
	if v == nil || err == nil || !v.Session.Banner.Positive() || ctx.Err() != nil ||
		!errors.Is(err, smtp.ErrClosed) && !errors.Is(err, smtp.ErrTimeout) {
		return nil
	}
	s.Hello = "HELO"
	w, err := p.open(ctx, s)
	switch {
	case err != nil:
		return nil
	case !p.usable(w):
		w.Close()
		return nil
	}
	return w
}

// askInStep asks the controls again, in another session, where the answers of
// the first could not be told apart or one never came.
func (p *port) askInStep(ctx context.Context, visit *probe.Visit) *probe.Visit {
	if visit.OutOfStep() {
		p.smtp.Lockstep = true
		visit = p.askAnew(ctx, visit)
	}
	if visit.Unanswered() && !p.ignoresUs {
		p.ignoresUs = true // to strangers' recipients, as it seems: they are not asked for again here
		visit = p.askAnew(ctx, visit)
	}
	return visit
}

func (p *port) askAnew(ctx context.Context, visit *probe.Visit) *probe.Visit {
	again, err := p.open(ctx, p.smtp)
	if err != nil {
		return visit
	}
	visit.Close()
	p.evidence.Session, p.evidence.Asked = again.Session, nil
	p.askControls(ctx, again)
	return again
}

// sessions returns how many sessions are played side by side: more of them with
// a server that holds its banner back, where a session is mostly silence.
func (p *port) sessions(v *probe.Visit) int {
	if v.Paused >= longPause {
		return 3 * p.o.Sessions
	}
	return p.o.Sessions
}

const longPause = 3 * time.Second
