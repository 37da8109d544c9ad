package queuetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postern/internal/fault"
	"postern/internal/queue"
)

// A model is a queue in a hundred lines: what must be leased, and in which
// state each message is.
type model struct {
	now    time.Time
	letter map[string]*modelLetter
	lease  []*modelLease
	past   map[string][]string // of each message that ever was, as told writes it
}

type modelLetter struct {
	hold bool
	goes []modelDelivery // to recipients 0, 1, ...
}

type modelDelivery struct {
	to       string
	state    queue.DeliveryState
	next     time.Time
	attempts int
}

type modelLease struct {
	queue.Lease
	id string
}

// happened enters what is told of a message.
func (m *model) happened(id, what string) { m.past[id] = append(m.past[id], what) }

// due returns the recipients of a message that would be leased for one
// destination now.
func (m *model) due(id, to string) (which []queue.Which) {
	l := m.letter[id]
	for i, d := range l.goes {
		if !l.hold && d.to == to && d.state == queue.Waiting && !d.next.After(m.now) {
			which = append(which, queue.Which{Recipient: i})
		}
	}
	return which
}

func (m *model) out(id, to string) bool {
	return slices.ContainsFunc(m.lease, func(l *modelLease) bool { return l.id == id && (to == "" || l.Destination == to) })
}

// give returns all that can be leased, as "id destination which".
func (m *model) give() []string {
	m.lease = slices.DeleteFunc(m.lease, func(l *modelLease) bool { return !l.Until.After(m.now) })
	var list []string
	for id := range m.letter {
		for _, to := range modelDomains {
			if which := m.due(id, to); len(which) > 0 && !m.out(id, to) {
				list = append(list, fmt.Sprint(id, to, which))
			}
		}
	}
	slices.Sort(list)
	return list
}

func (m *model) state(id string) queue.State {
	l, waits, tried := m.letter[id], false, false
	for _, d := range l.goes {
		waits = waits || d.state == queue.Waiting
		tried = tried || d.attempts > 0 || d.state == queue.Waiting && !d.next.IsZero()
	}
	switch {
	case m.out(id, ""):
		return queue.Active
	case l.hold || !waits:
		return queue.Held
	case tried:
		return queue.Deferred
	default:
		return queue.Fresh
	}
}

func (m *model) settled(id string) bool {
	return !slices.ContainsFunc(m.letter[id].goes, func(d modelDelivery) bool { return !d.state.Settled() })
}

func (m *model) drop(id string) {
	delete(m.letter, id)
	m.happened(id, "done")
	m.lease = slices.DeleteFunc(m.lease, func(l *modelLease) bool { return l.id == id })
}

var modelDomains = []string{"far.example", "near.example", "third.example"}

// A modelled queue runs beside its model.
type modelled struct {
	*rapid.T
	e    Engine
	disk *fault.Disk
	q    Queue
	m    *model
}

func (e Engine) testModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &modelled{T: rt, e: e, disk: fault.NewDisk(), m: &model{now: noon, letter: map[string]*modelLetter{}, past: map[string][]string{}}}
		s.open()
		rt.Repeat(map[string]func(*rapid.T){
			"":        func(*rapid.T) { s.check() },
			"put":     func(*rapid.T) { s.put() },
			"lease":   func(*rapid.T) { s.lease() },
			"settle":  func(*rapid.T) { s.settle() },
			"return":  func(*rapid.T) { s.giveBack() },
			"extend":  func(*rapid.T) { s.extend() },
			"hold":    func(*rapid.T) { s.hold() },
			"release": func(*rapid.T) { s.release() },
			"retry":   func(*rapid.T) { s.retry() },
			"delete":  func(*rapid.T) { s.remove() },
			"wait": func(*rapid.T) {
				s.m.now = s.m.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(rt, "s")) * time.Second)
			},
			"restart": func(*rapid.T) { s.no(s.q.Close()); s.m.lease = nil; s.open() },
		})
		s.no(s.q.Whole(rt.Context()))
		s.no(s.q.Close())
	})
}

func (s *modelled) no(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *modelled) open() {
	q, err := s.e.Open(s.disk, "/queue", Options{Report: func(err error) { s.Error(err) }})
	s.no(err)
	s.q = q
}

// one draws one of the messages, or skips.
func (s *modelled) one() string {
	var list []string
	for id := range s.m.letter {
		list = append(list, id)
	}
	if len(list) == 0 {
		s.Skip("no message")
	}
	slices.Sort(list)
	return rapid.SampledFrom(list).Draw(s.T, "id")
}

func (s *modelled) aLease() *modelLease {
	if len(s.m.lease) == 0 {
		s.Skip("no lease")
	}
	return rapid.SampledFrom(s.m.lease).Draw(s.T, "lease")
}

func (s *modelled) put() {
	var to []string
	l := &modelLetter{hold: rapid.IntRange(0, 9).Draw(s.T, "hold") == 0}
	for i := range rapid.IntRange(1, 4).Draw(s.T, "recipients") {
		domain := rapid.SampledFrom(modelDomains).Draw(s.T, "domain")
		to = append(to, fmt.Sprintf("<u%d@%s>", i, domain))
		l.goes = append(l.goes, modelDelivery{to: domain})
	}
	letter := NewLetter(s.m.now, "<a@ours.example>", to...)
	if l.hold {
		letter.Hold = "held"
	}
	_, err := s.q.Put(s.Context(), letter, bytes.NewReader(Text(1, 300)))
	s.no(err)
	s.m.letter[letter.ID] = l
	s.m.past[letter.ID] = nil
	if l.hold {
		s.m.happened(letter.ID, "held")
	}
}

func (s *modelled) lease() {
	want := s.m.give()
	limit := rapid.IntRange(1, 8).Draw(s.T, "max")
	until := s.m.now.Add(time.Duration(rapid.IntRange(1, 120).Draw(s.T, "s")) * time.Second)
	list, err := s.q.Lease(s.Context(), queue.Ask{Owner: "m", Now: s.m.now, Until: until, Max: limit})
	s.no(err)
	if len(list) != min(limit, len(want)) {
		s.Fatalf("%d leases, want %d of %v", len(list), limit, want)
	}
	for _, l := range list {
		if !slices.Contains(want, fmt.Sprint(l.Message.ID, l.Destination, l.Which)) {
			s.Fatalf("leased %s %s %v, want one of %v", l.Message.ID, l.Destination, l.Which, want)
		}
		s.m.lease = append(s.m.lease, &modelLease{l, l.Message.ID})
	}
}

func (s *modelled) settle() {
	l := s.aLease()
	var outcomes []queue.Outcome
	for _, w := range l.Which {
		o := queue.Outcome{Which: w, At: s.m.now, State: queue.DeliveryState(rapid.IntRange(0, 3).Draw(s.T, "state"))}
		o.Next = s.m.now.Add(time.Duration(rapid.IntRange(0, 100).Draw(s.T, "s")) * time.Second)
		o.Untried = rapid.IntRange(0, 3).Draw(s.T, "untried") == 0
		if outcomes = append(outcomes, o); !o.Untried {
			s.m.happened(l.id, fmt.Sprintf("%d.%d %v", w.Recipient, w.Index, o.State))
		}
		d := &s.m.letter[l.id].goes[w.Recipient]
		d.state, d.next = o.State, time.Time{}
		if o.State == queue.Waiting {
			d.next = o.Next
		}
		if o.State != queue.Withheld && !o.Untried {
			d.attempts++
		}
	}
	_, err := s.q.Settle(s.Context(), l.Lease, outcomes...)
	s.no(err)
	s.forget(l)
	if s.m.settled(l.id) {
		s.m.drop(l.id)
	}
}

func (s *modelled) forget(l *modelLease) {
	s.m.lease = slices.DeleteFunc(s.m.lease, func(o *modelLease) bool { return o == l })
}

func (s *modelled) giveBack() {
	l := s.aLease()
	s.no(s.q.Return(s.Context(), l.Lease))
	s.forget(l)
}

func (s *modelled) extend() {
	l := s.aLease()
	l.Until = l.Until.Add(time.Minute)
	s.no(s.q.Extend(s.Context(), l.Lease, l.Until))
}

func (s *modelled) counted(n int, err error) {
	s.Helper()
	if n != 1 || err != nil {
		s.Fatalf("%d messages, %v; want 1", n, err)
	}
}

func (s *modelled) hold() {
	id := s.one()
	s.counted(s.q.Hold(s.Context(), "held", id))
	s.m.letter[id].hold = true
	s.m.happened(id, "held")
}

func (s *modelled) release() {
	id := s.one()
	s.counted(s.q.Release(s.Context(), id))
	s.m.happened(id, "released")
	l := s.m.letter[id]
	l.hold = false
	for i := range l.goes {
		if !l.goes[i].state.Settled() {
			l.goes[i].state, l.goes[i].next = queue.Waiting, time.Time{}
		}
	}
}

func (s *modelled) retry() {
	id := s.one()
	s.counted(s.q.Retry(s.Context(), id))
	s.m.happened(id, "retried")
	for i := range s.m.letter[id].goes {
		s.m.letter[id].goes[i].next = time.Time{}
	}
}

func (s *modelled) remove() {
	id := s.one()
	s.counted(s.q.Delete(s.Context(), id))
	s.m.happened(id, "deleted")
	s.m.drop(id)
}

func (s *modelled) check() {
	list, _, err := s.q.List(s.Context(), queue.Filter{}, queue.Page{Max: 1 << 20})
	s.no(err)
	if len(list) != len(s.m.letter) {
		s.Fatalf("%d messages, want %d", len(list), len(s.m.letter))
	}
	count := map[queue.State]int{queue.Fresh: 0, queue.Active: 0, queue.Deferred: 0, queue.Held: 0}
	for _, m := range list {
		want := s.m.state(m.ID)
		count[want]++
		if m.State != want {
			s.Fatalf("%s is %v, want %v", m.ID, m.State, want)
		}
	}
	lives, _, err := s.q.Find(s.Context(), queue.Search{From: "a@ours.example"}, queue.Page{Max: 1 << 20})
	s.no(err)
	if len(lives) != len(s.m.past) {
		s.Fatalf("%d lives, want %d", len(lives), len(s.m.past))
	}
	for i, l := range lives {
		if want := strings.Join(s.m.past[l.Message.ID], ", "); told(l) != want {
			s.Fatalf("the life of %s: %s; want %s", l.Message.ID, told(l), want)
		}
		if i > 0 && l.Message.ID >= lives[i-1].Message.ID {
			s.Fatalf("%s comes after %s: it is not older", l.Message.ID, lives[i-1].Message.ID)
		}
	}
	stats, err := s.q.Stats(s.Context())
	s.no(err)
	if fmt.Sprint(stats.Messages) != fmt.Sprint(count) || stats.Octets != int64(300*len(list)) {
		s.Fatalf("stats %+v, want %v", stats, count)
	}
}
