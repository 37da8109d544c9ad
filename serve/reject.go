package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"postern/internal/bounce"
	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// mostNotices is how many messages of a rejected batch their sender is told of
// by a notice each: who sent thousands has understood, and a mailbox that they
// fill is of no use to its owner.
const mostNotices = 100

// reject deletes messages, and tells who sent them first: a notice that is sent
// twice is better than one that is lost. told counts the notices.
func (r *Relay) reject(told *int) verb {
	return func(ctx context.Context, ids ...string) (int, error) {
		for _, id := range ids {
			if *told >= mostNotices {
				break
			}
			m, err := r.queue.Show(ctx, id)
			if errors.Is(err, queue.ErrNoSuchID) {
				continue
			}
			if err == nil {
				err = r.tellRejected(ctx, &m, told)
			}
			if err != nil {
				return 0, err
			}
		}
		return r.queue.Delete(ctx, ids...)
	}
}

// tellRejected tells who sent a message that it was rejected: each of its
// reverse-paths, as far as the policy lets a notice go there.
func (r *Relay) tellRejected(ctx context.Context, m *queue.Message, told *int) error {
	about := map[string][]queue.Which{}
	for i := range m.To {
		for j, d := range m.To[i].Goes {
			from := m.From
			if !d.From.IsZero() {
				from = d.From
			}
			if !d.State.Settled() && !from.Null() && bounce.Wants(m.To[i].Params.Notify, bounce.Failed) {
				about[from.String()] = append(about[from.String()], queue.Which{Recipient: i, Index: j})
			}
		}
	}
	for from, which := range about {
		record := m.To[which[0].Recipient].Grant
		record.From = from
		grant, refusal, err := r.policy().Notice(record)
		if refusal != nil || err != nil {
			continue // who sent it is not proven: nobody is written to
		}
		if err := r.notice(ctx, m, grant, from, which); err != nil {
			return fmt.Errorf("message %s: the notice of its rejection: %w", m.ID, err)
		}
		*told++
	}
	return nil
}

func (r *Relay) notice(ctx context.Context, m *queue.Message, grant policy.Grant, from string, which []queue.Which) error {
	to, err := mail.ParseReversePath(from)
	if err != nil {
		return err
	}
	n := bounce.Notice{
		Kind: bounce.Failed, Host: r.current.Load().settings.Policy.Hostname.ASCII(), ID: queue.NewID(), Now: time.Now(), To: to,
		EnvID: m.Params.EnvID, Arrived: m.Origin.At, UTF8: m.Params.UTF8, Ret: mail.RetHeaders,
	}
	for _, w := range which {
		n.Recipients = append(n.Recipients, bounce.Recipient{
			To:     mail.Recipient{Path: mail.ForwardTo(m.Delivery(w).To), Params: m.To[w.Recipient].Params},
			Status: mail.EnhancedCode{Class: 5, Subject: 7, Detail: 1}, Note: "rejected by the administrator of " + n.Host,
		})
	}
	body, err := r.queue.Open(ctx, m.ID)
	if err != nil {
		return err
	}
	defer body.Close()
	var text bytes.Buffer
	env, err := n.Write(&text, io.Reader(body))
	if err != nil {
		return err
	}
	_, err = r.queue.Put(ctx, queue.Letter{
		ID: n.ID, From: env.From, Params: env.Sender, Name: "<" + n.ID + "@" + n.Host + ">",
		To:     []policy.Accepted{{Grant: grant, Params: mail.RecipientParams{Notify: mail.NotifyNever}}},
		Origin: queue.Origin{At: n.Now, Session: m.ID},
	}, &text)
	return err
}
