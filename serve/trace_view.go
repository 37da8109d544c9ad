package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"postern/forward"
	"postern/internal/attr"
	"postern/internal/deliver"
	"postern/internal/queue"
	"postern/internal/state"
)

// How long the life of a message is known after it was accepted, and of how
// many: where the configuration does not say, and at most while the disk is so
// full that strangers, or all, are refused, of which the past must not be the
// reason.
const (
	traceKept  = 30 * 24 * time.Hour
	tracesKept = 1_000_000
	traceLeast = 24 * time.Hour
	traceFull  = time.Hour
)

// A Trace is the life of a message as it is shown. Names are added, never
// changed.
type Trace struct {
	ID        string           `json:"id"`
	State     string           `json:"state"` // of a message in the queue, as lists show it; or delivered, failed, partly, deleted, expired
	MessageID string           `json:"message_id,omitempty"`
	Accepted  time.Time        `json:"accepted"`
	Done      time.Time        `json:"done,omitzero"` // when it left the queue
	Hold      string           `json:"hold,omitempty"`
	From      string           `json:"from"`
	Size      int64            `json:"size"`
	Session   string           `json:"session"`
	Listener  string           `json:"listener"`
	Peer      string           `json:"peer,omitempty"`
	Helo      string           `json:"helo,omitempty"`
	Identity  string           `json:"identity,omitempty"`
	TLS       string           `json:"tls,omitempty"`
	To        []TraceRecipient `json:"to"`
	Events    []TraceEvent     `json:"events"`
}

// A TraceRecipient is one that was accepted, and why.
type TraceRecipient struct {
	Recipient string          `json:"recipient"`
	Reason    string          `json:"reason"`
	Who       string          `json:"who,omitempty"`
	At        string          `json:"at,omitempty"` // the line that granted it
	Goes      []TraceDelivery `json:"goes"`
}

// A TraceDelivery is one address that it goes to, and how far that is.
type TraceDelivery struct {
	To       string    `json:"to"`
	From     string    `json:"from,omitempty"` // instead of the message's
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next,omitzero"`
	Waits    *Wait     `json:"waits,omitempty"` // of one that is not settled
}

// A TraceEvent is one thing that happened.
type TraceEvent struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"` // delivered, deferred, failed, withheld; held, released, retried, moved, deleted, expired
	To      string    `json:"to,omitempty"`
	Attempt int       `json:"attempt,omitempty"` // which of this address
	Next    time.Time `json:"next,omitzero"`
	Reply   string    `json:"reply,omitempty"`
	Note    string    `json:"note,omitempty"`
	Host    string    `json:"host,omitempty"`
	Addr    string    `json:"addr,omitempty"`
	TLS     string    `json:"tls,omitempty"`
	TookMS  int64     `json:"took_ms,omitempty"`
}

// A TracePage is one page of lives, the newest first.
type TracePage struct {
	Messages []Trace       `json:"messages"`
	Next     string        `json:"next,omitempty"`         // the value of after for the following page
	Tunnels  []TunnelTrace `json:"tunnels,omitempty"`      // of the first page, if they were looked for
	More     bool          `json:"more_tunnels,omitempty"` // older ones were left off
}

func traceOf(l *queue.Life, s standing) Trace {
	m, now := &l.Message, time.Now()
	t := Trace{
		ID: m.ID, State: traceState(l), MessageID: m.Name, Accepted: m.Origin.At, Done: l.Done, Hold: m.Hold, From: m.From.String(), Size: m.Size,
		Session: m.Origin.Session, Listener: m.Origin.Listener, Helo: m.Origin.Helo, Identity: m.Origin.Identity, TLS: m.Origin.TLS,
		To: make([]TraceRecipient, 0, len(m.To)), Events: make([]TraceEvent, 0, len(l.Events)),
	}
	if m.Origin.Peer.IsValid() {
		t.Peer = m.Origin.Peer.String()
	}
	for _, to := range m.To {
		r := TraceRecipient{Recipient: to.Grant.To, Reason: to.Grant.Reason, Who: to.Grant.Who, At: to.Grant.Origin}
		for _, d := range to.Goes {
			v := TraceDelivery{To: d.To.String(), State: d.State.String(), Attempts: d.Attempts, Next: d.Next}
			if l.Done.IsZero() {
				v.Waits = s.wait(m, &d, now)
			}
			if !d.From.IsZero() {
				v.From = d.From.String()
			}
			r.Goes = append(r.Goes, v)
		}
		t.To = append(t.To, r)
	}
	attempts := map[queue.Which]int{}
	for i := range l.Events {
		e := &l.Events[i]
		v := TraceEvent{At: e.At, Event: eventNames[e.Kind], Next: e.Next, Note: e.Note, Host: e.Via.Host, TLS: e.Via.TLS, TookMS: e.Via.Took.Milliseconds()}
		if !e.Reply.IsZero() {
			v.Reply = e.Reply.String()
		}
		if e.Via.Addr.IsValid() {
			v.Addr = e.Via.Addr.String()
		}
		if e.Note != "" {
			switch e.Kind {
			case queue.WasRetried: // its times were moved: the clock was set
				v.Event = "moved"
			case queue.WasDeleted:
				v.Event = "expired"
			case queue.Attempted, queue.WasHeld, queue.WasReleased:
			}
		}
		if e.Kind == queue.Attempted {
			v.Event, v.To = outcomeNames[e.State], m.Delivery(e.Which).To.String()
			if e.State != queue.Withheld {
				attempts[e.Which]++
				v.Attempt = attempts[e.Which]
			}
		}
		t.Events = append(t.Events, v)
	}
	return t
}

var (
	eventNames   = [...]string{queue.WasHeld: "held", queue.WasReleased: "released", queue.WasRetried: "retried", queue.WasDeleted: "deleted"}
	outcomeNames = [...]string{queue.Waiting: "deferred", queue.Withheld: "withheld", queue.Delivered: "delivered", queue.Failed: "failed"}
)

// traceState says in a word what a message does, or what came of it.
func traceState(l *queue.Life) string {
	if l.Done.IsZero() {
		return l.Message.State.String()
	}
	if n := len(l.Events); n > 0 && l.Events[n-1].Kind == queue.WasDeleted {
		if l.Events[n-1].Note != "" {
			return "expired"
		}
		return "deleted"
	}
	delivered, failed := false, false
	for _, to := range l.Message.To {
		for _, d := range to.Goes {
			delivered = delivered || d.State == queue.Delivered
			failed = failed || d.State != queue.Delivered
		}
	}
	switch {
	case !failed:
		return "delivered"
	case !delivered:
		return "failed"
	default:
		return "partly"
	}
}

// told is a queue, and what is done for each destination.
type told struct {
	past
	now standing
}

// past is what answers: the queue, or its store while no relay runs.
type past interface {
	Life(ctx context.Context, id string) (queue.Life, error)
	Find(ctx context.Context, s queue.Search, p queue.Page) ([]queue.Life, string, error)
}

// tracesOf answers a search for what became of messages and of tunnels. The
// latter are found by id, identity and peer.
func tracesOf(ctx context.Context, h told, dir string, now func(id string) (forward.Count, bool), v url.Values) (TracePage, error) {
	page, err := traces(ctx, h, v)
	if err != nil || v.Get("after") != "" || v.Get("id") != "" && len(page.Messages) > 0 {
		return page, err
	}
	s, ok, err := tunnelSearchOf(v)
	if err != nil || !ok {
		return page, err
	}
	most, _ := strconv.Atoi(v.Get("max")) // 0: all
	page.Tunnels, page.More, err = findTunnels(dir, s, most, now)
	return page, err
}

// traces answers a search for messages. Times are written by RFC 3339.
func traces(ctx context.Context, h told, v url.Values) (TracePage, error) {
	if id := v.Get("id"); id != "" {
		l, err := h.Life(ctx, id)
		switch {
		case errors.Is(err, queue.ErrNoSuchID):
			return TracePage{Messages: []Trace{}}, nil
		case err != nil:
			return TracePage{}, err
		}
		return TracePage{Messages: []Trace{traceOf(&l, h.now)}}, nil
	}
	// What stands in address may be a Message-ID: it is looked for as both.
	s := queue.Search{Address: v.Get("address"), Name: v.Get("name"), Identity: v.Get("identity")}
	for name, address := range map[string]*string{"from": &s.From, "to": &s.To} {
		var err error
		if *address, err = addressOf(name, v.Get(name)); err != nil {
			return TracePage{}, err
		}
	}
	if text := v.Get("peer"); text != "" {
		var err error
		if s.Peer, err = netip.ParseAddr(text); err != nil {
			return TracePage{}, fmt.Errorf("peer: %w", err)
		}
		s.Peer = s.Peer.Unmap()
	}
	for name, at := range map[string]*time.Time{"since": &s.Since, "until": &s.Until} {
		if text := v.Get(name); text != "" {
			var err error
			if *at, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return TracePage{}, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	most, _ := strconv.Atoi(v.Get("max")) // 0: as many as a page has
	list, next, err := h.Find(ctx, s, queue.Page{After: v.Get("after"), Max: min(most, 1000)})
	page := TracePage{Messages: make([]Trace, 0, len(list)), Next: next}
	for i := range list {
		page.Messages = append(page.Messages, traceOf(&list[i], h.now))
	}
	return page, err
}

func trace(ctx context.Context, h past, now standing, id string) (Trace, error) {
	if _, err := queue.ParseID(id); err != nil {
		return Trace{}, err
	}
	l, err := h.Life(ctx, id)
	if errors.Is(err, queue.ErrNoSuchID) {
		return Trace{}, fmt.Errorf("no message %s is known: it never was, or it left the queue and is forgotten (keep in block trace)", id)
	}
	if err != nil {
		return Trace{}, err
	}
	return traceOf(&l, now), nil
}

// A Tracer finds the lives of messages. The words of a search are those of
// GET /trace: id alone, or from, to, address, name, identity, peer, since,
// until, after, max.
type Tracer interface {
	Traces(ctx context.Context, search url.Values) (TracePage, error)
}

// Traces asks the relay for lives.
func (c *Control) Traces(ctx context.Context, search url.Values) (p TracePage, err error) {
	err = c.Get(ctx, "/trace?"+search.Encode(), &p)
	return p, err
}

// OpenTraces opens what a relay that runs no more has left in a state folder.
// ErrNotRunning says that none ever was there; an error of another kind, that
// one runs, or that the store cannot be read.
func OpenTraces(dir string) (t Tracer, done func() error, err error) {
	store := filepath.Join(dir, "queue")
	if _, err := os.Stat(store); err != nil {
		return nil, nil, notRunning(dir)
	}
	folder, err := state.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	p, err := openPast(store)
	if err != nil {
		return nil, nil, errors.Join(err, folder.Close())
	}
	return left{p, filepath.Join(dir, tunnelFolder)}, func() error { return errors.Join(p.Close(), folder.Close()) }, nil
}

type left struct {
	past
	tunnels string
}

func (l left) Traces(ctx context.Context, search url.Values) (TracePage, error) {
	return tracesOf(ctx, told{past: l.past}, l.tunnels, nil, search)
}

// surely returns a time that has come whatever was done to the clock since the
// start: one that is set ahead makes nothing old that is deleted by its age.
func (r *Relay) surely() time.Time {
	now, ran := time.Now().Round(0), r.since.Add(time.Since(r.since)).Round(0)
	if ran.Before(now) {
		return ran
	}
	return now
}

// forget lets what is older than it is to be kept be forgotten.
func (r *Relay) forget(ctx context.Context) error {
	s := r.current.Load().settings
	kept, most := cmp.Or(s.Trace, traceKept), cmp.Or(s.Traces, tracesKept)
	if errors.Is(r.queue.Spare(0), queue.ErrFull) {
		kept = min(kept, traceLeast)
		if errors.Is(r.queue.Room(0), queue.ErrFull) {
			kept = min(kept, traceFull)
		}
		r.o.Log.LogAttrs(ctx, slog.LevelWarn, "little room to store mail: what became of messages is forgotten early", slog.Duration("kept", kept))
	}
	before := r.surely().Add(-kept)
	many, err := r.queue.Forget(ctx, before, most)
	if err := errors.Join(err, r.tunnelTraces.forget(before)); err != nil {
		return fmt.Errorf("forget old traces: %w", err)
	}
	if many > 0 {
		r.o.Log.LogAttrs(ctx, slog.LevelWarn, "what became of the oldest messages is forgotten early: there were too many (messages in block trace)", slog.Int("forgotten", many), slog.Int("kept", most))
	}
	return nil
}

// expire removes what failed so long ago, of which nobody can be told, and about
// which the operator has not decided: strangers would fill the disk with it.
func (r *Relay) expire(ctx context.Context) error {
	kept := cmp.Or(r.current.Load().settings.Delivery.Withheld, deliver.DefaultLifetimes.Withheld)
	if kept < 0 {
		return nil
	}
	before := r.surely().Add(-kept)
	why := fmt.Sprintf("failed, nobody could be told, and nobody decided about it for %v (withheld in block delivery)", kept)
	for after := ""; ; {
		list, next, err := r.list(ctx, queue.Filter{State: queue.Held}, queue.Page{After: after, Max: batchPage})
		if err != nil {
			return fmt.Errorf("delete what nobody decided about: %w", err)
		}
		for i := range list {
			m := &list[i]
			if !deliver.Overdue(m, before) {
				continue
			}
			if _, err := r.queue.Expire(ctx, why, m.ID); err != nil {
				return fmt.Errorf("delete %s, about which nobody decided: %w", m.ID, err)
			}
			r.o.Log.LogAttrs(ctx, slog.LevelWarn, "deleted: nobody decided about it", slog.String("why", why), attr.Message(m.ID), attr.ReversePath(m.From), attr.Peer(m.Origin.Peer))
		}
		if next == "" {
			return nil
		}
		after = next
	}
}
