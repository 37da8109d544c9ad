package pebble

import (
	"slices"
	"strings"
	"time"

	"postern/internal/queue"
)

// key is the id of a message.
type key [16]byte

func keyOf(id string) (k key) { copy(k[:], id); return k }

func (k key) String() string { return string(k[:]) }

// The index is what the engine knows of every message without reading the
// store: what is due when, by destination. It is rebuilt at each opening, and
// the caller holds a lock over it. A message for one destination costs some
// 150 octets.
type index struct {
	entries map[key]*entry
	to      map[string]*destination
	sleep   heap[*destination] // those of which nothing was due when last seen, by their next
	ready   ring[*destination] // those of which something was, in turn
	leases  map[uint64]*lease
	ending  heap[*lease]
	token   uint64
	states  [queue.Held + 1]int
	octets  int64
	newest  int64 // the latest time that was seen of what happened: none lies ahead of the clock
}

func newIndex() *index {
	return &index{entries: map[key]*entry{}, to: map[string]*destination{}, leases: map[uint64]*lease{}}
}

// An entry is one message.
type entry struct {
	key   key
	size  int64
	state queue.State // without its leases: Fresh, Deferred or Held
	shown queue.State // as it is counted
	first unit        // most messages go to one destination
	more  []*unit
	kept  *record // what the store has, while something is leased; nil: not known here
}

func (e *entry) units(yield func(*unit) bool) {
	if e.first.to == nil || !yield(&e.first) {
		return
	}
	for _, u := range e.more {
		if !yield(u) {
			return
		}
	}
}

// A unit is one message for one destination: what is leased.
type unit struct {
	entry *entry
	to    *destination
	lease *lease
	next  int64 // Unix nanoseconds; 0: at once
	at    int32 // in the heap of its lane, from 0; -1: in none
	lane  uint8
	held  bool // nothing of it waits
}

func (u *unit) before(o *unit) bool {
	if u.next != o.next {
		return u.next < o.next
	}
	return string(u.entry.key[:]) < string(o.entry.key[:])
}

func (u *unit) place(at int) { u.at = int32(at) }

// A lease is one that is out.
type lease struct {
	token uint64
	unit  *unit
	until int64
	which []queue.Which
	at    int
}

func (l *lease) before(o *lease) bool { return l.until < o.until }
func (l *lease) place(at int)         { l.at = at }

// The lanes of a destination in the order of their share, and the order in
// which a busy destination takes from them.
const lanes = 3

var shares = [...]uint8{0, 1, 0, 2, 0, 1, 0}

// A destination is all that goes to one domain.
type destination struct {
	name    string
	waits   [lanes]heap[*unit]
	units   map[*unit]struct{}
	active  int
	turn    uint8
	ready   bool
	at      int // in index.sleep; -1: not there
	reply   string
	replyAt int64
}

// next returns when its first unit is due; false: nothing waits.
func (d *destination) next() (int64, bool) {
	first, ok := int64(0), false
	for i := range d.waits {
		if u, any := d.waits[i].top(); any && (!ok || u.next < first) {
			first, ok = u.next, true
		}
	}
	return first, ok
}

func (d *destination) before(o *destination) bool {
	a, _ := d.next()
	b, _ := o.next()
	return a < b
}

func (d *destination) place(at int) { d.at = at }

// pick returns the unit that is to go now, by the shares of the lanes.
func (d *destination) pick(now int64) *unit {
	due := func(lane uint8) *unit {
		if u, ok := d.waits[lane].top(); ok && u.next <= now {
			return u
		}
		return nil
	}
	u := due(shares[int(d.turn)%len(shares)])
	for lane := uint8(0); u == nil && lane < lanes; lane++ {
		u = due(lane)
	}
	if u != nil {
		d.turn = (d.turn + 1) % uint8(len(shares))
	}
	return u
}

// laneOf returns where a message's unit waits: its own lane, the last when it
// was tried before.
func laneOf(m *queue.Message, tried bool) uint8 {
	switch {
	case tried || m.Lane == queue.Bulk:
		return 2
	case m.Lane == queue.Urgent:
		return 0
	default:
		return 1
	}
}

// put brings the index in line with what is stored of a message now; leases
// that are out stay. It reports whether something may be due sooner.
func (x *index) put(m *queue.Message) bool {
	k := keyOf(m.ID)
	e := x.entries[k]
	if e == nil {
		e = &entry{key: k, size: m.Size}
		x.entries[k] = e
		x.octets += m.Size
	}
	e.state = m.Rest()
	x.newest = max(x.newest, nanos(m.Origin.At))
	for i := range m.To {
		for j := range m.To[i].Goes {
			if d := &m.To[i].Goes[j]; !d.State.Settled() {
				x.unit(e, d.Destination())
			}
		}
	}
	woke := false
	for u := range e.units {
		if u.known() {
			woke = x.refresh(u, m) || woke
		}
	}
	e.prune()
	x.count(e)
	return woke
}

// unit returns the unit of e for a destination, made if it is not there.
func (x *index) unit(e *entry, name string) *unit {
	for u := range e.units {
		if u.to.name == name {
			return u
		}
	}
	d := x.to[name]
	if d == nil {
		d = &destination{name: strings.Clone(name), units: map[*unit]struct{}{}, at: -1}
		x.to[d.name] = d
	}
	u := &e.first
	if u.to != nil {
		u = new(unit)
		e.more = append(e.more, u)
	}
	u.entry, u.to, u.at = e, d, -1
	d.units[u] = struct{}{}
	return u
}

// refresh recomputes a unit from its message.
func (x *index) refresh(u *unit, m *queue.Message) (woke bool) {
	open, waiting, tried := false, false, false
	u.next = 0
	for i := range m.To {
		for j := range m.To[i].Goes {
			d := &m.To[i].Goes[j]
			if d.Destination() != u.to.name {
				continue
			}
			x.heard(u.to, d)
			open = open || !d.State.Settled()
			if d.State != queue.Waiting {
				continue
			}
			if n := nanos(d.Next); !waiting || n < u.next {
				u.next = n
			}
			waiting, tried = true, tried || d.Attempts > 0
		}
	}
	x.unqueue(u)
	u.held, u.lane = !waiting, laneOf(m, tried)
	switch {
	case !open && u.lease == nil:
		x.forget(u)
	case waiting && u.lease == nil && m.Hold == "":
		return x.enqueue(u)
	}
	return false
}

// heard keeps the last reply of a destination.
func (x *index) heard(to *destination, d *queue.Delivery) {
	x.newest = max(x.newest, nanos(d.At))
	if at := nanos(d.At); at >= to.replyAt && d.Attempts > 0 {
		said := d.Reply.String()
		if said == "" {
			said = d.Note
		}
		if said != to.reply {
			to.reply = said
		}
		to.replyAt = at
	}
}

// enqueue lets a unit wait in its lane; true: it is now its destination's first.
func (x *index) enqueue(u *unit) bool {
	d := u.to
	d.waits[u.lane].push(u)
	first := u.at == 0
	x.seat(d)
	return first
}

func (x *index) unqueue(u *unit) {
	if u.at >= 0 {
		u.to.waits[u.lane].remove(int(u.at))
		u.at = -1
		x.seat(u.to)
	}
}

// seat puts a destination that is not ready where its next belongs. Those that
// are ready stay in the ring; who takes from it looks again.
func (x *index) seat(d *destination) {
	if d.ready {
		return
	}
	_, waits := d.next()
	switch {
	case waits && d.at < 0:
		x.sleep.push(d)
	case waits:
		x.sleep.fix(d.at)
	case d.at >= 0:
		x.sleep.remove(d.at)
		d.at = -1
	}
}

// forget takes a unit out of its destination, and that out of the index when
// it was the last. The entry keeps it until prune.
func (x *index) forget(u *unit) {
	d := u.to
	delete(d.units, u)
	if len(d.units) == 0 && !d.ready {
		delete(x.to, d.name)
	}
}

// prune drops the units that were forgotten.
func (e *entry) prune() {
	kept := e.more[:0]
	for _, u := range e.more {
		if u.known() {
			kept = append(kept, u)
		}
	}
	clear(e.more[len(kept):])
	if e.more = kept; len(kept) == 0 {
		e.more = nil
	}
}

// known reports whether the unit is one of its destination's.
func (u *unit) known() bool {
	_, ok := u.to.units[u]
	return ok
}

// count keeps the sums by state.
func (x *index) count(e *entry) {
	state := e.state
	for u := range e.units {
		if u.lease != nil {
			state = queue.Active
		}
	}
	if e.shown != 0 {
		x.states[e.shown]--
	}
	e.shown = state
	x.states[state]++
}

// drop takes a message out of the index, with its leases.
func (x *index) drop(k key) {
	e := x.entries[k]
	if e == nil {
		return
	}
	for u := range e.units {
		if u.lease != nil {
			x.end(u.lease)
		}
		x.unqueue(u)
		if u.known() {
			x.forget(u)
		}
	}
	x.states[e.shown]--
	x.octets -= e.size
	delete(x.entries, k)
}

// destinations returns what is kept for each.
func (x *index) destinations() []queue.Destination {
	list := make([]queue.Destination, 0, len(x.to))
	for _, d := range x.to {
		if len(d.units) == 0 {
			continue
		}
		t := queue.Destination{Name: d.name, Messages: len(d.units), Active: d.active, Reply: d.reply, ReplyAt: moment(d.replyAt)}
		var oldest *unit
		for u := range d.units {
			if u.held || u.entry.state == queue.Held {
				t.Held++
			}
			if oldest == nil || string(u.entry.key[:]) < string(oldest.entry.key[:]) {
				oldest = u
			}
		}
		t.Oldest = oldest.entry.key.String()
		if n, waits := d.next(); waits {
			t.Next = time.Unix(0, n)
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b queue.Destination) int {
		if a.Messages != b.Messages {
			return b.Messages - a.Messages
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}
