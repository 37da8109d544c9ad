package deliver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/maildir"
	"postern/internal/queue"
	"postern/mail"
)

// store puts a message into the folders of its recipients, one by one.
func (j *job) store(ctx context.Context, way Route) {
	j.final = true
	host := j.d.o.Routes().Hostname.ASCII()
	folders, err := maildir.Open(way.Folder, maildir.Options{Host: host, Separator: way.Separator})
	if err != nil {
		j.sayAll(j.open, &trouble{note: err.Error()})
		j.open = nil
		return
	}
	defer func() { _ = folders.Close() }() // what is stored is stored
	for _, w := range j.open {
		j.storeFor(ctx, folders, w)
	}
	j.open = nil
}

func (j *job) storeFor(ctx context.Context, folders *maildir.Store, w queue.Which) {
	began := time.Now()
	body, err := j.d.o.Queue.Open(ctx, j.lease.Message.ID)
	if err != nil {
		j.sayAll([]queue.Which{w}, j.unreadable(err))
		return
	}
	defer body.Close()
	err = folders.Deliver(ctx, j.from(w), mail.ForwardTo(j.lease.Message.Delivery(w).To), body)
	via := queue.Via{Host: "maildir", Took: time.Since(began)}
	var no *maildir.Error
	switch {
	case err == nil:
		j.say(w, mail.NewReply(250, "2.0.0", "stored in its folder"), "", via)
	case errors.As(err, &no):
		j.d.o.Report(fmt.Errorf("message %s: %w", j.lease.Message.ID, err))
		j.say(w, no.Reply, "", via)
	default:
		j.sayAll([]queue.Which{w}, j.unreadable(err))
	}
}
