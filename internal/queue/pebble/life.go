package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	lib "github.com/cockroachdb/pebble/v2"

	"postern/internal/queue"
)

// What happened to a message lies beside its record while it is in the queue,
// a key for each change, written in the batch of the change. When it leaves,
// all of it becomes one value with the last form of the record, so that a
// message that is delivered at once costs its history one key and its words.
const (
	eventsVersion = 1
	lifeVersion   = 1
)

// enter adds to b what happened to a message that stays in the queue. The
// record must be written after it.
func (r *record) enter(b *lib.Batch, happened []queue.Event) error {
	if len(happened) == 0 {
		return nil
	}
	w := &writer{[]byte{eventsVersion}}
	w.events(happened)
	err := b.Set(keyOf(r.ID).event(r.events), seal(w.b, 0), nil)
	r.events++
	return err
}

// retire adds to b that a message leaves the queue for the history.
func (s *store) retire(b *lib.Batch, r *record, last []queue.Event, done time.Time) error {
	k := keyOf(r.ID)
	err := erase(b, r)
	buf, _ := lives.Get().(*[]byte)
	defer lives.Put(buf)
	w := &writer{(*buf)[:0]}
	w.life(r, done)
	for n := range r.events {
		v, ok, errGet := s.get(k.event(n))
		if errGet != nil {
			return errors.Join(err, errGet)
		}
		if _, from, bad := unseal(v); ok && bad == nil {
			w.b = append(w.b, from.b...)
		} // what is damaged must not keep a message from leaving; Verify finds it
	}
	w.events(last)
	w.b = seal(w.b, 0)
	err = errors.Join(err, b.Set(k.at(lifeKey), w.b, nil))
	day := dayOf(r.ID)
	for _, word := range r.Words() {
		err = errors.Join(err, b.Set(wordAt(day, hashOf(word), k[:]), nil, nil))
	}
	if cap(w.b) <= 64<<10 {
		*buf = w.b // for the next; the batch has its copy
	}
	return err
}

var lives = sync.Pool{New: func() any { return new([]byte) }}

// life writes all of a life that comes before its events, to the end of which
// it goes.
func (w *writer) life(r *record, done time.Time) {
	left := *r
	left.chunks, left.sum, left.events = 0, 0, 0
	w.b = append(w.b, lifeVersion)
	w.moment(done)
	at := len(w.b)
	w.b = left.appendTo(append(w.b, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
}

// events writes events. Those that differ in nothing but their delivery, as
// when one reply is for many recipients, are written once.
func (w *writer) events(list []queue.Event) {
	for len(list) > 0 {
		head := (&writer{}).event(&list[0])
		same := 1
		for same < len(list) && list[0].Kind == queue.Attempted && bytes.Equal((&writer{}).event(&list[same]), head) {
			same++
		}
		w.b = append(w.b, head...)
		if list[0].Kind == queue.Attempted {
			w.number(uint64(same))
			for _, e := range list[:same] {
				w.number(uint64(e.Which.Recipient))
				w.number(uint64(e.Which.Index))
			}
		}
		list = list[same:]
	}
}

// event writes all of an event but its delivery.
func (w *writer) event(e *queue.Event) []byte {
	w.number(uint64(e.Kind))
	w.moment(e.At)
	w.number(uint64(e.State))
	w.moment(e.Next)
	w.reply(e.Reply)
	w.text(e.Note)
	w.text(e.Via.Host)
	if e.Via.Addr.IsValid() {
		w.text(e.Via.Addr.String())
	} else {
		w.text("")
	}
	w.text(e.Via.TLS)
	w.signed(int64(e.Via.Took))
	return w.b
}

// events reads events to the end.
func (r *reader) events(m *queue.Message) (list []queue.Event) {
	for len(r.b) > 0 {
		e := r.event()
		if e.Kind != queue.Attempted {
			list = append(list, e)
			continue
		}
		for range r.count("deliveries:") {
			e.Which = queue.Which{Recipient: int(r.below(1<<31, "recipient")), Index: int(r.below(1<<31, "delivery"))}
			if !m.Has(e.Which) {
				r.fail("an attempt of no delivery: %v", e.Which)
				return nil
			}
			list = append(list, e)
		}
	}
	return list
}

func (r *reader) event() queue.Event {
	e := queue.Event{Kind: queue.EventKind(r.below(uint64(queue.WasDeleted)+1, "an event of kind")), At: r.moment()}
	if e.Kind == 0 {
		r.fail("an event of no kind")
	}
	e.State = queue.DeliveryState(r.below(uint64(queue.Failed)+1, "state"))
	e.Next = r.moment()
	e.Reply = r.reply()
	e.Note = r.text()
	e.Via.Host = r.text()
	if s := r.text(); s != "" {
		var err error
		if e.Via.Addr, err = netip.ParseAddrPort(s); err != nil {
			r.fail("%v", err)
		}
	}
	e.Via.TLS = r.text()
	e.Via.Took = time.Duration(r.signed("a duration"))
	return e
}

// parseEvents reads what one key holds of what happened to m.
func parseEvents(b []byte, m *queue.Message) ([]queue.Event, error) {
	version, r, err := unseal(b)
	if err != nil {
		return nil, err
	}
	if version != eventsVersion {
		return nil, fmt.Errorf("%w: events of version %d", errRecord, version)
	}
	list := r.events(m)
	return list, r.err
}

// parseLife reads the life of a message that has left the queue.
func parseLife(b []byte) (queue.Life, error) {
	version, r, err := unseal(b)
	if err != nil {
		return queue.Life{}, err
	}
	if version != lifeVersion {
		return queue.Life{}, fmt.Errorf("%w: a life of version %d", errRecord, version)
	}
	done := r.moment()
	m, err := parseRecord(r.octets())
	if r.err != nil || err != nil {
		return queue.Life{}, errors.Join(r.err, err)
	}
	if done.IsZero() {
		r.fail("a life without its end")
	}
	l := queue.Life{Message: m.Message, Done: done, Events: r.events(&m.Message)}
	return l, r.err
}

// octets reads octets that have their length in four before them.
func (r *reader) octets() (b []byte) {
	if len(r.b) < 4 || uint64(binary.LittleEndian.Uint32(r.b)) > uint64(len(r.b)-4) {
		r.fail("a record that is cut off")
		return nil
	}
	n := binary.LittleEndian.Uint32(r.b)
	b, r.b = r.b[4:4+n], r.b[4+n:]
	return b
}
