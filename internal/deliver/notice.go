package deliver

import (
	"context"

	"postern/internal/bounce"
	"postern/internal/queue"
	"postern/mail"
)

func (j *job) notify(_ context.Context) error { return nil }

// tooFast reports whether a server wants fewer of us.
func tooFast(r mail.Reply) bool {
	return r.Transient() && bounce.Classify(r, "") == bounce.Rate
}

// classOf says why a delivery did not succeed; "" of one that did.
func classOf(o queue.Outcome) string {
	if o.State == queue.Delivered || o.State == queue.Withheld {
		return ""
	}
	return bounce.Classify(o.Reply, o.Note).String()
}
