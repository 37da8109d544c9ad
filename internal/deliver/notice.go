package deliver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"postern/internal/bounce"
	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// tooFast reports whether a server wants fewer of us.
func tooFast(r mail.Reply) bool {
	return r.Transient() && bounce.Classify(r, "") == bounce.Rate
}

// tooMany reports whether a server has too many connections: one that is free
// again in a second is worth a second attempt sooner than the rest of what says
// that we are too fast.
func tooMany(r mail.Reply) bool {
	text := strings.ToLower(r.String())
	return r.Transient() && strings.Contains(text, "too many") && (strings.Contains(text, "connections") || strings.Contains(text, "sessions"))
}

// classOf says why a delivery did not succeed; "" of one that did.
func classOf(o queue.Outcome) string {
	if o.State == queue.Delivered || o.State == queue.Withheld {
		return ""
	}
	return bounce.Classify(o.Reply, o.Note).String()
}

// notify tells who sent the message what they wish to know of its outcomes. A
// failure of which nobody can be told stays with the operator.
func (j *job) notify(ctx context.Context) error {
	for _, kind := range []bounce.Kind{bounce.Failed, bounce.Delayed, bounce.Delivered} {
		type who struct { // is told; an alias's owner not together with whom a stranger named
			path string
			own  bool
		}
		about := map[who][]int{}
		var order []who
		for i, o := range j.outcomes {
			if j.told[told{kind, o.Which}] || !j.concerns(kind, o) {
				continue
			}
			to := who{j.from(o.Which).String(), j.ownPath(o.Which)}
			if about[to] == nil {
				order = append(order, to)
			}
			about[to] = append(about[to], i)
		}
		for _, to := range order {
			if err := j.tell(ctx, kind, about[to]); err != nil {
				return err
			}
		}
	}
	return nil
}

// concerns reports whether an outcome is one of which the sender is told so.
func (j *job) concerns(kind bounce.Kind, o queue.Outcome) bool {
	m := &j.lease.Message
	to, d := &m.To[o.Recipient], m.Delivery(o.Which)
	if !bounce.Wants(j.params(o.Which).Notify, kind) {
		return false
	}
	switch kind {
	case bounce.Failed:
		return o.State == queue.Failed
	case bounce.Delayed:
		after := j.d.o.Lifetimes.Delay
		if o.State != queue.Waiting || after < 0 || j.from(o.Which).Null() || to.Grant.Reason == policy.Inbound.String() {
			return false
		}
		// Once: with the first attempt after that time.
		late := m.Origin.At.Add(after)
		return !o.At.Before(late) && (d.At.Before(late) || strings.HasSuffix(d.Note, delayUntold))
	case bounce.Delivered: // where the next server does not tell by itself (RFC 3461 section 5.2.2)
		return o.State == queue.Delivered && !j.confirmed[o.Which] && !j.from(o.Which).Null()
	}
	return false
}

// from is the reverse-path of one delivery.
func (j *job) from(w queue.Which) mail.ReversePath {
	if own := j.lease.Message.Delivery(w).From; !own.IsZero() {
		return own
	}
	return j.lease.Message.From
}

// ownPath reports whether a delivery has a reverse-path that the operator wrote.
func (j *job) ownPath(w queue.Which) bool { return !j.lease.Message.Delivery(w).From.IsZero() }

const unproven = "who sent it is not proven, and a stranger is not written to"

// tell writes one notice about some outcomes, which have one reverse-path.
func (j *job) tell(ctx context.Context, kind bounce.Kind, about []int) error {
	m := &j.lease.Message
	first := j.outcomes[about[0]]
	to := j.from(first.Which)
	grant, why := policy.Grant{}, "its reverse-path is null: it is a notice itself"
	switch {
	case to.Null():
	case m.To[first.Recipient].Grant.Reason == policy.Inbound.String() && !j.ownPath(first.Which):
		// Whom a stranger names is a guess, of our own people too: what they
		// would read is the stranger's, in our name.
		why = unproven
	default:
		record := m.To[first.Recipient].Grant
		record.From = to.String()
		g, refusal, err := j.d.o.Policy().Notice(record)
		switch {
		case err != nil:
			why = err.Error()
		case refusal != nil:
			why = unproven
		default:
			grant, why = g, ""
		}
	}
	if why != "" {
		j.untold(kind, about, why)
		return nil
	}
	n := j.notice(kind, about, to)
	var text bytes.Buffer
	env, err := j.write(ctx, &n, &text)
	if err != nil {
		return fmt.Errorf("message %s: write the notice: %w", m.ID, err)
	}
	l := queue.Letter{
		ID: n.ID, From: env.From, Params: env.Sender, Name: "<" + n.ID + "@" + n.Host + ">",
		To:     []policy.Accepted{{Grant: grant, Params: mail.RecipientParams{Notify: mail.NotifyNever}}},
		Origin: queue.Origin{At: n.Now, Session: m.ID},
	}
	if _, err := j.d.o.Queue.Put(ctx, l, &text); err != nil {
		return fmt.Errorf("message %s: store the notice: %w", m.ID, err)
	}
	if j.told == nil {
		j.told = map[told]bool{}
	}
	for _, i := range about {
		o := &j.outcomes[i]
		j.told[told{kind, o.Which}] = true
		o.Note = strings.TrimPrefix(o.Note+"; notice "+n.ID+" to "+to.String(), "; ")
	}
	return nil
}

// untold leaves a failure to the operator of which nobody can be told. Only a
// notice of our own may end without a word: it was one.
func (j *job) untold(kind bounce.Kind, about []int, why string) {
	if kind != bounce.Failed || ours(&j.lease.Message) {
		return
	}
	for _, i := range about {
		o := &j.outcomes[i]
		said := strings.TrimSpace(o.Reply.String() + " " + o.Note)
		o.State, o.Note = queue.Withheld, failedUntold+said+"; no notice: "+why
	}
}

// failedUntold begins the note of a failure of which nobody can be told.
const failedUntold = "failed: "

// Overdue reports whether all that is left of a message has failed before then,
// nobody can be told, and the operator has not decided about it.
func Overdue(m *queue.Message, before time.Time) bool {
	if m.Hold != "" {
		return false
	}
	left := 0
	for _, to := range m.To {
		for _, d := range to.Goes {
			switch {
			case d.State.Settled():
			case d.State != queue.Withheld, !strings.HasPrefix(d.Note, failedUntold), !d.At.Before(before):
				return false
			default:
				left++
			}
		}
	}
	return left > 0
}

// ours reports a notice that this package wrote.
func ours(m *queue.Message) bool { return m.From.Null() && m.Origin.Listener == "" }

func (j *job) notice(kind bounce.Kind, about []int, to mail.ReversePath) bounce.Notice {
	m := &j.lease.Message
	n := bounce.Notice{
		Kind: kind, Host: j.d.o.Routes().Hostname.ASCII(), ID: queue.NewID(), Now: time.Now(), To: to,
		EnvID: m.Params.EnvID, Arrived: m.Origin.At, UTF8: m.Params.UTF8, Ret: m.Params.Ret,
	}
	for _, i := range about {
		o := j.outcomes[i]
		params := j.params(o.Which)
		r := bounce.Recipient{
			To:    mail.Recipient{Path: mail.ForwardTo(m.Delivery(o.Which).To), Params: params},
			Reply: o.Reply, Note: o.Note, RemoteMTA: o.Via.Host, LastAttempt: o.At,
		}
		switch {
		case kind == bounce.Delayed:
			r.RetryUntil = j.d.o.Lifetimes.end(m)
		case kind == bounce.Delivered && !j.final:
			r.Action = bounce.ActionRelayed
		case kind == bounce.Failed && (o.Reply.Transient() || o.Reply.IsZero() && j.expired()):
			r.Status = mail.EnhancedCode{Class: 4, Subject: 4, Detail: 7} // RFC 3463: delivery time expired
			r.Note = strings.TrimSpace(fmt.Sprintf("tried %d times in %s. %s", m.Delivery(o.Which).Attempts+1, days(o.At.Sub(m.Origin.At)), r.Note))
		}
		n.Recipients = append(n.Recipients, r)
	}
	return n
}

// expired reports that an outcome was made a failure by its age.
func (j *job) expired() bool { return j.left() <= 0 }

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Round(time.Hour).Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Round(time.Hour).Hours())/24)
}

// write writes a notice with what it returns of the message. A message that
// cannot be read any more is told of all the same.
func (j *job) write(ctx context.Context, n *bounce.Notice, w *bytes.Buffer) (mail.Envelope, error) {
	body, err := j.d.o.Queue.Open(ctx, j.lease.Message.ID)
	if err != nil {
		return n.Write(w, nil)
	}
	defer body.Close()
	env, err := n.Write(w, body)
	if err != nil {
		w.Reset()
		return n.Write(w, io.LimitReader(strings.NewReader(""), 0))
	}
	return env, nil
}
