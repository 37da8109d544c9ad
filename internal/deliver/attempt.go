package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/bounce"
	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// A job is one lease on its way: which of its deliveries have no word yet, and
// what was said of the others.
type job struct {
	d        *Deliverer
	lease    queue.Lease
	began    time.Time
	open     []queue.Which
	outcomes []queue.Outcome
	slow     mail.Reply // what the server said when it wanted fewer of us

	told      map[told]bool        // of these somebody was told already
	confirmed map[queue.Which]bool // of these the next server tells the sender by itself
	final     bool                 // where it went is where the mailboxes are
}

// told is what somebody was told of one delivery.
type told struct {
	kind bounce.Kind
	queue.Which
}

// trouble is why nothing was said of any recipient.
type trouble struct {
	state  queue.DeliveryState // Waiting or Failed
	reply  mail.Reply
	note   string
	via    queue.Via
	health health
	again  bool // over a fresh connection it may go
	whole  bool // over a fresh connection it may go, and not in chunks
}

func (t *trouble) why() string {
	if !t.reply.IsZero() {
		return t.reply.String()
	}
	return t.note
}

// attempt tries to deliver what a lease is for, and settles it. over is called
// as soon as the destination is no longer bothered. The dialogues have a limit;
// the word about what a server took is not given up with them.
func (d *Deliverer) attempt(work context.Context, l queue.Lease, over func(health, string)) Sums {
	if !d.keep(work, &l) {
		return Sums{}
	}
	ctx, cancel := context.WithTimeoutCause(work, attemptLimit, errTooLong)
	defer cancel()
	j := &job{d: d, lease: l, began: time.Now()}
	j.renew()
	var h health
	why := ""
	if len(j.open) > 0 {
		way := d.o.Routes().For(l.Destination)
		switch way.Kind {
		case ToNobody:
			j.withhold(heldByRoute + way.Why)
		case ToMaildir:
			j.store(ctx, way)
			h = healthy
		case ToMX, ToSmarthost, ToHop:
			h, why = j.send(ctx, way)
		}
	}
	over(h, why)
	return j.settle(work)
}

// keep makes sure that a lease is ours for as long as an attempt may take. One
// that was over while it waited here may have been given out again: who sends
// for it sends twice.
func (d *Deliverer) keep(ctx context.Context, l *queue.Lease) bool {
	until := time.Now().Add(leaseFor)
	if until.Sub(l.Until) < waitsFor {
		return true
	}
	switch err := d.o.Queue.Extend(ctx, *l, until); {
	case errors.Is(err, queue.ErrLeaseLost):
		return false
	case err != nil:
		d.o.Report(fmt.Errorf("message %s: %w", l.Message.ID, err))
		return false
	}
	l.Until = until
	return true
}

// putOff defers what a lease is for without asking anybody: its destination
// did not answer others a moment ago.
func (d *Deliverer) putOff(ctx context.Context, l queue.Lease, until time.Time, why string) Sums {
	j := &job{d: d, lease: l, began: time.Now()}
	j.renew()
	left := until.Sub(j.began)
	for _, w := range j.open {
		// They do not all come back in the moment when it may be asked again.
		next := j.began.Add(left + time.Duration(float64(left)*chance()))
		j.add(queue.Outcome{Which: w, State: queue.Waiting, Next: next, Note: why, Untried: true})
	}
	j.open = nil
	return j.settle(ctx)
}

// renew decides again on every grant: what was allowed when it was accepted
// may be so no more.
func (j *job) renew() {
	p := j.d.o.Policy()
	m := &j.lease.Message
	lost := map[int]string{}
	for _, w := range j.lease.Which {
		why, known := lost[w.Recipient]
		if !known {
			record := m.To[w.Recipient].Grant
			why = p.Lost(record)
			if doubt := j.d.o.Suspended(record.Who); why == "" && doubt != "" && record.Reason == policy.TrustedPeer.String() {
				why = fmt.Sprintf("trust in %s was withdrawn: %s", record.Who, doubt)
			}
			lost[w.Recipient] = why
		}
		if why == "" {
			j.open = append(j.open, w)
			continue
		}
		j.add(queue.Outcome{Which: w, State: queue.Withheld, Note: why})
	}
}

// heldByRoute begins the note of what a route holds, so that it can be let go
// when the route says otherwise.
const heldByRoute = "held by its route: "

// Frees reports whether something of a message was held by a route that leads
// somewhere now.
func (r *Routes) Frees(m *queue.Message) bool {
	for _, to := range m.To {
		for _, d := range to.Goes {
			if d.State == queue.Withheld && strings.HasPrefix(d.Note, heldByRoute) && r.For(d.Destination()).Kind != ToNobody {
				return true
			}
		}
	}
	return false
}

// withhold leaves all that is open to the operator.
func (j *job) withhold(why string) {
	for _, w := range j.open {
		j.add(queue.Outcome{Which: w, State: queue.Withheld, Note: why})
	}
	j.open = nil
}

func (j *job) add(o queue.Outcome) {
	if o.At.IsZero() {
		o.At = time.Now()
	}
	if o.State == queue.Waiting && o.Next.IsZero() {
		o.Next = again(o.At, j.lease.Message.Delivery(o.Which).Attempts+1)
	}
	if left := j.left(); o.State == queue.Waiting && left <= 0 {
		o.State, o.Next, o.Untried = queue.Failed, time.Time{}, false
	} else if o.State == queue.Waiting && o.Next.Sub(o.At) > left {
		o.Next = o.At.Add(left) // who sent it is told then, not hours later
	}
	j.outcomes = append(j.outcomes, o)
}

// left returns for how long the message is tried yet, by the clock that it was
// leased by: one that is set meanwhile makes nothing older.
func (j *job) left() time.Duration {
	now := j.began.Add(time.Since(j.began))
	return j.d.o.Lifetimes.end(&j.lease.Message).Sub(now)
}

// say adds what a server said of one delivery.
func (j *job) say(w queue.Which, r mail.Reply, note string, via queue.Via) {
	o := queue.Outcome{Which: w, Reply: r, Note: note, Via: via}
	switch {
	case r.Positive():
		o.State = queue.Delivered
	case r.Permanent():
		o.State = queue.Failed
	default:
		o.State = queue.Waiting
	}
	j.add(o)
}

// sayAll adds the same of several.
func (j *job) sayAll(which []queue.Which, t *trouble) {
	for _, w := range j.unsaid(which) {
		o := queue.Outcome{Which: w, State: t.state, At: time.Now(), Reply: t.reply, Note: t.note, Via: t.via}
		if t.health == busy && tooMany(t.reply) {
			o.Next = soon(o.At, j.lease.Message.Delivery(w).Attempts+1)
		}
		j.add(o)
	}
}

// unsaid returns those of which nothing was said yet.
func (j *job) unsaid(which []queue.Which) []queue.Which {
	return slices.DeleteFunc(slices.Clone(which), func(w queue.Which) bool {
		return slices.ContainsFunc(j.outcomes, func(o queue.Outcome) bool { return o.Which == w })
	})
}

// mostRecipients is how many go with one transaction; RFC 5321 section
// 4.5.3.1.8 has every server take a hundred, and some take fewer.
const mostRecipients = 50

// send speaks SMTP or LMTP. Recipients with the same reverse-path go together,
// and those whom an alias forwards to apart from those who were named.
func (j *job) send(ctx context.Context, way Route) (h health, why string) {
	for len(j.open) > 0 {
		sender, forwarded := j.from(j.open[0]), j.forwarded(j.open[0])
		var now, later []queue.Which
		for _, w := range j.open {
			if len(now) < mostRecipients && j.from(w).String() == sender.String() && j.forwarded(w) == forwarded {
				now = append(now, w)
			} else {
				later = append(later, w)
			}
		}
		j.open = later
		t := j.transact(ctx, way, sender, now)
		if t == nil {
			h = max(h, healthy)
			continue
		}
		j.sayAll(now, t)
		if h, why = t.health, t.why(); h == dead || h == busy {
			j.sayAll(j.open, t) // the rest would hear the same
			j.open = nil
		}
	}
	if !j.slow.IsZero() && h == healthy {
		return busy, j.slow.String()
	}
	return h, why
}

// transact brings one envelope to one of the hosts of the route. A trouble is
// why none of them said anything of the recipients.
func (j *job) transact(ctx context.Context, way Route, from mail.ReversePath, which []queue.Which) *trouble {
	asked := way.TLS
	if j.lease.Message.Params.RequireTLS {
		way.TLS = Verify // RFC 8689 section 4.2.1
	}
	hosts, last := j.d.hosts(ctx, way, j.lease.Destination)
	talks := 0
	for _, h := range hosts {
		if talks == mostTalks || ctx.Err() != nil || last != nil && time.Since(j.began) > patience {
			break
		}
		for fresh := false; ; fresh = true {
			l, t := j.d.connect(ctx, way, h, fresh)
			if t == nil {
				talks++
				reused := l.used > 0
				if t = j.talk(ctx, l, from, which); t == nil {
					return nil
				}
				if t.whole || reused && (t.again || t.reply.Code == 421) {
					continue // it was closed while nobody used it, or had served enough
				}
			}
			last = worse(last, t)
			break
		}
	}
	if last == nil {
		last = &trouble{note: fmt.Sprintf("given up: %v", context.Cause(ctx))}
	}
	if way.TLS != asked && last.health == dead {
		last.health = silent // what one message wants more than others says nothing to them
	}
	return last
}

// mostTalks is with how many servers of a domain one attempt speaks, and
// patience how long it takes until no other is tried: whoever names hundreds
// that do not answer would have a place for an hour.
const (
	mostTalks = 2
	patience  = 5 * time.Minute
)

// worse keeps what says most: that something may work later weighs more than
// that it never will, and a reply more than silence.
func worse(old, t *trouble) *trouble {
	switch {
	case old == nil, old.state == queue.Failed && t.state == queue.Waiting:
		return t
	case old.state == queue.Waiting && t.state == queue.Failed, !old.reply.IsZero() && t.reply.IsZero():
		return old
	}
	return t
}

// talk has one dialogue. A trouble says that it ended before anything was said
// of the recipients; otherwise each has its outcome.
func (j *job) talk(ctx context.Context, l *link, from mail.ReversePath, which []queue.Which) *trouble {
	which = j.unsaid(which)
	for {
		now, later := which, []queue.Which(nil)
		if most := l.recipients(); most > 0 && len(which) > most {
			now, later = which[:most], which[most:]
		}
		left, t := j.transaction(ctx, l, from, now)
		// RFC 5321 section 4.5.3.1.10: too many at once, and the rest may follow.
		which = append(left, later...)
		switch {
		case t != nil:
			return t
		case !l.slow.IsZero():
			l.close()
			if len(which) == 0 {
				return nil
			}
			return &trouble{reply: l.slow, via: l.via(0), health: busy} // the rest would hear the same
		case len(which) == 0:
			if !l.broken {
				j.d.pool.put(l) // not before: nobody else may use it between two transactions
			}
			return nil
		}
	}
}

// transaction sends once. left are the recipients for which the server had no
// room beside the others.
func (j *job) transaction(ctx context.Context, l *link, from mail.ReversePath, which []queue.Which) (left []queue.Which, t *trouble) {
	began := time.Now()
	env := j.envelope(from, which)
	body, err := j.d.o.Queue.Open(ctx, j.lease.Message.ID)
	if err != nil {
		j.d.pool.put(l)
		return nil, j.unreadable(err)
	}
	in := &source{r: body, size: j.lease.Message.Size}
	j.fit(ctx, l, &env)
	results, final, err := l.client.Send(ctx, env, in)
	_ = body.Close() // it was read to its end, or does not matter any more
	via := l.via(time.Since(began))
	if err != nil && in.err != nil {
		return nil, j.unreadable(in.err)
	}
	if t := j.unchunked(l, err, in.begun, via); t != nil {
		return nil, t
	}
	if errors.Is(err, smtp.ErrBareLine) || errors.Is(err, smtp.ErrNUL) { // no server may be sent such a thing
		return nil, &trouble{state: queue.Failed, note: "5.6.0 " + err.Error(), via: via, health: healthy}
	}
	if err != nil && results == nil { // nothing was sent: the server lacks something
		j.d.pool.put(l)
		return nil, lacking(err, via)
	}
	// Over LMTP those who were accepted have no reply before the message is sent.
	if err != nil && !in.begun && !slices.ContainsFunc(results, func(r smtp.RcptResult) bool { return !r.Reply.IsZero() }) {
		// It has greeted us: what it does not like is this message. Only silence
		// speaks of the server.
		t := &trouble{note: err.Error(), via: via, again: true}
		if errors.Is(err, smtp.ErrTimeout) {
			t.health = dead
		}
		return nil, t
	}
	if final.Code == 421 && !slices.ContainsFunc(results, func(r smtp.RcptResult) bool { return r.Reply.Positive() }) {
		l.close()
		return nil, &trouble{reply: final, via: via, health: busy}
	}
	taken := err == nil && final.Positive()
	j.heed(l, final)
	for _, r := range results {
		if r.Reply.Code != 452 || !taken {
			j.heed(l, r.Reply)
		}
	}
	j.final = l.way.LMTP
	if _, ok := l.client.Extension("DSN"); ok && !l.way.LMTP {
		for _, w := range which {
			j.confirms(w)
		}
	}
	for i, r := range results {
		switch {
		case r.Reply.Code == 452 && taken && l.slow.IsZero():
			left = append(left, which[i])
		case r.Reply.AboutCommand() && (!l.way.LMTP || !in.begun):
			j.puzzled(l, which[i], r.Reply, via)
		case !r.Reply.Positive() && !r.Reply.IsZero():
			j.say(which[i], r.Reply, "", via)
		case r.Reply.Positive() && l.way.LMTP:
			j.say(which[i], r.Reply, "", via)
		case err == nil && final.AboutCommand() && !in.begun:
			j.puzzled(l, which[i], final, via)
		case err == nil:
			j.say(which[i], final, "", via)
		default: // it may have the message or not: RFC 1047
			j.say(which[i], mail.Reply{}, err.Error(), via)
		}
	}
	l.used++
	l.broken = l.broken || err != nil
	return left, nil
}

// unchunked is the trouble with a server that offers chunks and cannot take
// them, as a firewall before it may have it: the message goes once more, by
// DATA. One that fell silent or hung up behind BDAT may be one too; it is not
// asked again at once, since it may have the message.
func (j *job) unchunked(l *link, err error, begun bool, via queue.Via) *trouble {
	_, chunks := l.client.Extension("CHUNKING")
	refused := errors.Is(err, smtp.ErrNoChunks)
	if chunks && begun && (refused || errors.Is(err, smtp.ErrClosed) || errors.Is(err, smtp.ErrTimeout)) {
		j.d.peers.noChunks(l.key, time.Now())
	}
	if !refused {
		return nil
	}
	l.close()
	return &trouble{note: err.Error(), via: via, whole: true}
}

// puzzled says of a delivery that the server did not take the command: that is
// no word about the message, and another time it may know it.
func (j *job) puzzled(l *link, w queue.Which, r mail.Reply, via queue.Via) {
	j.add(queue.Outcome{Which: w, State: queue.Waiting, Reply: r, Note: "the server did not take the command", Via: via})
	l.broken = true // it and we may be out of step
	l.close()
}

// heed remembers that a server wants fewer of us.
func (j *job) heed(l *link, r mail.Reply) {
	if r.Code == 421 || tooFast(r) {
		l.slow, j.slow = r, r
	}
}

func (j *job) confirms(w queue.Which) {
	if j.confirmed == nil {
		j.confirmed = map[queue.Which]bool{}
	}
	j.confirmed[w] = true
}

// envelope is what one server sees.
func (j *job) envelope(from mail.ReversePath, which []queue.Which) mail.Envelope {
	m := &j.lease.Message
	env := mail.Envelope{From: from, Sender: m.Params}
	env.Sender.Size, env.Sender.Auth = m.Size, "" // who logged in is nobody else's affair
	for _, w := range which {
		d := m.Delivery(w)
		env.To = append(env.To, mail.Recipient{Path: mail.ForwardTo(d.To), Params: j.params(w)})
	}
	if slices.ContainsFunc(which, j.forwarded) { // see params
		env.Sender.EnvID, env.Sender.Ret = "", ""
	}
	return env
}

// params are the wishes of who sent a recipient's message. To whom an alias
// forwards is its owner's affair: neither is the sender told by the servers
// behind it, nor do these learn what the sender wrote to, and no wish of the
// sender's keeps a failure from a list's owner (RFC 3461 section 5.2.7.3).
func (j *job) params(w queue.Which) mail.RecipientParams {
	if j.forwarded(w) {
		return mail.RecipientParams{}
	}
	return j.lease.Message.To[w.Recipient].Params
}

// forwarded reports whether an alias leads a delivery to somebody else's domain,
// or gives it a reverse-path of its own, as a list.
func (j *job) forwarded(w queue.Which) bool {
	m := &j.lease.Message
	d := m.Delivery(w)
	if !d.From.IsZero() {
		return true
	}
	named, err := mail.ParseForwardPath(m.To[w.Recipient].Grant.To)
	return err == nil && !named.Address().Domain().Equal(d.To.Domain()) && !j.d.o.Policy().Ours(d.To.Domain())
}

// lacking says why a message cannot go to a server at all.
func lacking(err error, via queue.Via) *trouble {
	t := &trouble{state: queue.Failed, note: err.Error(), via: via, health: healthy}
	switch {
	case errors.Is(err, smtp.ErrTooLarge):
		t.note = "5.3.4 " + err.Error()
	case errors.Is(err, smtp.ErrNotOffered):
		t.note = "5.6.3 " + err.Error()
	case errors.Is(err, smtp.ErrTooMany):
		t.state = queue.Waiting
	}
	return t
}
