package main

import (
	"context"
	"log/slog"
	"time"

	"postern/internal/attr"
	"postern/internal/systemd"
	"postern/serve"
)

// health is what a relay knows of itself.
type health interface {
	Healthy(ctx context.Context) error
	Summary(ctx context.Context) string
}

// A minder tells the service manager how the relay is.
type minder struct {
	manager *systemd.Notifier
	relay   health
	log     *slog.Logger
	words   *outlet
}

// phase is told by the relay.
func (m *minder) phase(p serve.Phase) {
	switch p {
	case serve.Serving:
		m.words.flush() // who is told finds what was said before
		m.note(m.manager.Ready(m.relay.Summary(context.Background())))
	case serve.Reloading:
		m.note(m.manager.Reloading())
	case serve.Stopping:
		m.note(m.manager.Stopping("sessions come to their end"))
	}
}

func (m *minder) note(err error) {
	if err != nil {
		m.log.Warn("systemd was not told", attr.Err(err))
	}
}

// usualStatus is how often the manager hears the status when it does not
// watch.
const usualStatus = time.Minute

// run keeps the manager informed until ctx ends. It says that the relay is
// alive only after it has asked it: one that hangs hangs this as well, and is
// started anew by the manager.
func (m *minder) run(ctx context.Context) {
	every := m.manager.Every()
	if every == 0 {
		every = usualStatus
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		within, cancel := context.WithTimeout(ctx, every)
		err := m.relay.Healthy(within)
		status := m.relay.Summary(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Error("the relay does not answer itself; the service manager is not told that it is alive", attr.Err(err))
			continue
		}
		if m.manager.Every() > 0 {
			m.note(m.manager.Alive())
		}
		if status != said {
			m.note(m.manager.Status(status))
			said = status
		}
	}
}
