package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

func (e Engine) testPut(t *testing.T) {
	r := e.room(t, Options{})
	for _, size := range []int{0, 1, 4096, 128<<10 - 1, 128 << 10, 128<<10 + 1, 256 << 10, 3<<20 + 5} {
		text := Text(1, size)
		l := NewLetter(noon, "<a@ours.example>", "<b@far.example>", "<sales@ours.example>")
		id := r.letter(l, text)
		if got, err := body(t.Context(), r, id); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d octets came back as %d, %v", size, len(got), err)
		}
		r.reopen()
		if got, err := body(t.Context(), r, id); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d octets came back from the disk as %d, %v", size, len(got), err)
		}
		m := r.show(id)
		if m.From != l.From || m.Params != l.Params || m.Size != int64(size) || !m.Origin.At.Equal(noon) {
			t.Errorf("the envelope came back as %+v", m)
		}
		m.Origin.At = l.Origin.At
		if m.Origin != l.Origin {
			t.Errorf("the origin came back as %+v", m.Origin)
		}
		if len(m.To) != 2 || m.To[0].Grant != l.To[0].Grant.Record() || m.To[0].Params != l.To[0].Params || len(m.To[0].Goes) != 1 || len(m.To[1].Goes) != 3 {
			t.Fatalf("the recipients came back as %+v", m.To)
		}
		for i, g := range l.To[1].Grant.Goes() {
			if got := m.To[1].Goes[i]; !got.To.Equal(g.To) || got.From != g.From {
				t.Errorf("destination %d came back as %+v, want %+v", i, got, g)
			}
		}
	}
	if err := r.Whole(t.Context()); err != nil {
		t.Error(err)
	}
}

func (e Engine) testPutRefused(t *testing.T) {
	r := e.room(t, Options{MaxSize: 300 << 10})
	errCut := errors.New("the connection was cut")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	taken := r.put(nil, "<b@far.example>")
	letter := func() queue.Letter { return NewLetter(noon, "<a@ours.example>", "<b@far.example>") }
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(*queue.Letter)
		size   int
		cut    error
		want   error
	}{
		{"no recipient", t.Context(), func(l *queue.Letter) { l.To = nil }, 10, nil, queue.ErrNoGrant},
		{"the zero grant", t.Context(), func(l *queue.Letter) { l.To = append(l.To, queue.Accepted{Grant: policy.Grant{}}) }, 10, nil, queue.ErrNoGrant},
		{"an id that is none", t.Context(), func(l *queue.Letter) { l.ID = "../../../etc/pas" }, 10, nil, queue.ErrID},
		{"the same id again", t.Context(), func(l *queue.Letter) { l.ID = taken }, 10, nil, queue.ErrTwice},
		{"declared too large", t.Context(), func(l *queue.Letter) { l.Params.Size = 300<<10 + 1 }, 10, nil, queue.ErrTooLarge},
		{"too large", t.Context(), func(*queue.Letter) {}, 300<<10 + 1, nil, queue.ErrTooLarge},
		{"cut early", t.Context(), func(*queue.Letter) {}, 10, errCut, errCut},
		{"cut late", t.Context(), func(*queue.Letter) {}, 270 << 10, errCut, errCut},
		{"given up", ended, func(*queue.Letter) {}, 10, nil, context.Canceled},
	} {
		l := letter()
		c.change(&l)
		text := bytes.NewReader(Text(1, c.size))
		var err error
		if c.cut == nil {
			_, err = r.Put(c.ctx, l, text)
		} else {
			_, err = r.Put(c.ctx, l, Cut{text, c.cut})
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if l.ID != taken {
			r.gone(l.ID)
		}
	}
	if err := r.Whole(t.Context()); err != nil {
		t.Errorf("what was refused left something: %v", err)
	}
	if list, _, err := r.List(t.Context(), queue.Filter{}, queue.Page{}); err != nil || len(list) != 1 {
		t.Errorf("the list has %d messages, %v", len(list), err)
	}
}

func (e Engine) testLease(t *testing.T) {
	r := e.room(t, Options{})
	id := r.put(Text(1, 100), "<b@far.example>", "<c@near.example>", "<d@FAR.example>", "<sales@ours.example>")
	list := r.lease(queue.Ask{})
	want := map[string][]queue.Which{
		"far.example":  {{Recipient: 0}, {Recipient: 2}, {Recipient: 3, Index: 2}},
		"near.example": {{Recipient: 1}, {Recipient: 3, Index: 1}},
		"ours.example": {{Recipient: 3}},
	}
	if len(list) != len(want) {
		t.Fatalf("leases for %v", destinations(list))
	}
	for _, l := range list {
		if l.Owner != "tester" || l.Message.ID != id || !reflect.DeepEqual(l.Which, want[l.Destination]) {
			t.Errorf("%s: %s %s %v, want %v", l.Destination, l.Owner, l.Message.ID, l.Which, want[l.Destination])
		}
		if l.Destination == "far.example" && l.Message.Delivery(l.Which[2]).From.String() != "<owner-sales@ours.example>" {
			t.Errorf("an alias's mail leaves as %v", l.Message.Delivery(l.Which[2]).From)
		}
	}
	if again := r.lease(queue.Ask{}); len(again) != 0 {
		t.Errorf("what is leased was given again: %v", destinations(again))
	}
	r.state(id, queue.Active)
	held := NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	held.Hold = "looks like spam"
	r.letter(held, nil)
	if list := r.lease(queue.Ask{}); len(list) != 0 {
		t.Errorf("what is held was given: %v", destinations(list))
	}
	r.state(held.ID, queue.Held)
}

func (e Engine) testFairness(t *testing.T) {
	r := e.room(t, Options{})
	var ids []string
	for i := range 10 {
		ids = append(ids, r.put(nil, "<b@busy.example>"))
		if i < 2 {
			r.put(nil, "<b@calm.example>")
		}
	}
	r.put(nil, "<b@third.example>")
	list := r.lease(queue.Ask{Max: 4})
	count := map[string]int{}
	for _, l := range list {
		count[l.Destination]++
	}
	if len(list) != 4 || count["busy.example"] > 2 || count["calm.example"] == 0 || count["third.example"] != 1 {
		t.Errorf("four leases went to %v: each destination has its turn", count)
	}
	var busy []string
	for _, l := range append(list, r.lease(queue.Ask{})...) {
		if l.Destination == "busy.example" {
			busy = append(busy, l.Message.ID)
		}
	}
	slices.Sort(ids)
	if !slices.Equal(busy, ids) {
		t.Errorf("the oldest is not the first: %v, want %v", busy, ids)
	}
	for range 3 {
		r.put(nil, "<b@one.example>")
		r.put(nil, "<b@two.example>")
	}
	for _, c := range []struct {
		name string
		ask  queue.Ask
		want int
	}{
		{"two of each", queue.Ask{Each: 2, Except: []string{"two.example"}}, 2},
		{"only those", queue.Ask{Only: []string{"two.example", "none.example"}, Max: 2}, 2},
		{"only and except", queue.Ask{Only: []string{"two.example"}, Except: []string{"two.example"}}, 0},
		{"the rest", queue.Ask{}, 2},
	} {
		if got := r.lease(c.ask); len(got) != c.want {
			t.Errorf("%s: %v, want %d", c.name, destinations(got), c.want)
		}
	}
}

func (e Engine) testLanes(t *testing.T) {
	r := e.room(t, Options{})
	lanes := map[string]queue.Lane{}
	for i := range 21 {
		id := r.put(nil, "<b@far.example>")
		lanes[id] = []queue.Lane{queue.Bulk, queue.Normal, queue.Urgent}[i/7]
		lane := lanes[id]
		if n, err := r.Change(t.Context(), queue.Change{Lane: &lane}, id); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	count := make(map[queue.Lane]int)
	for _, l := range r.lease(queue.Ask{Max: 7}) {
		count[lanes[l.Message.ID]]++
	}
	if count[queue.Urgent] != 4 || count[queue.Normal] != 2 || count[queue.Bulk] != 1 {
		t.Errorf("of seven leases %v, want 4 urgent, 2 normal, 1 bulk", count)
	}
	// A message that was tried waits behind new ones, however old it is.
	old := r.put(nil, "<b@slow.example>")
	l := r.lease(queue.Ask{Only: []string{"slow.example"}})[0]
	r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon})...)
	fresh := r.put(nil, "<b@slow.example>")
	if got := r.lease(queue.Ask{Only: []string{"slow.example"}}); len(got) != 2 || got[0].Message.ID != fresh || got[1].Message.ID != old {
		t.Errorf("the retry went before the new message")
	}
}

func (e Engine) testLeasesEnd(t *testing.T) {
	r := e.room(t, Options{})
	id := r.put(nil, "<b@far.example>")
	ask := queue.Ask{Until: noon.Add(time.Minute)}
	first := r.lease(ask)[0]
	if err := r.Return(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	r.state(id, queue.Fresh)
	second := r.lease(ask)[0]
	if err := r.Return(t.Context(), first); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("an old lease was returned: %v", err)
	}
	if err := r.Extend(t.Context(), second, noon.Add(2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if list := r.lease(queue.Ask{Now: noon.Add(90 * time.Second)}); len(list) != 0 {
		t.Error("an extended lease ended early")
	}
	third := r.lease(queue.Ask{Owner: "another", Now: noon.Add(2 * time.Minute)})
	if len(third) != 1 {
		t.Fatal("a lease did not end")
	}
	for name, do := range map[string]func() error{
		"settle": func() error {
			_, err := r.Settle(t.Context(), second, all(second, queue.Outcome{State: queue.Delivered})...)
			return err
		},
		"settle nothing": func() error { _, err := r.Settle(t.Context(), second); return err },
		"extend":         func() error { return r.Extend(t.Context(), second, noon.Add(time.Hour)) },
		"return":         func() error { return r.Return(t.Context(), second) },
	} {
		if err := do(); !errors.Is(err, queue.ErrLeaseLost) {
			t.Errorf("%s of a lease that another holds: %v", name, err)
		}
	}
	r.settle(third[0], 0, all(third[0], queue.Outcome{State: queue.Delivered})...)
	r.gone(id)
}

func (e Engine) testSettle(t *testing.T) {
	r := e.room(t, Options{})
	id := r.put(Text(1, 200<<10), "<b@far.example>", "<c@far.example>", "<d@far.example>", "<e@far.example>")
	l := r.lease(queue.Ask{})[0]
	busy, dead := mail.NewReply(451, "4.3.0", "busy"), mail.NewReply(550, "5.1.1", "nobody of that name")
	later := noon.Add(5 * time.Minute)
	outcomes := []queue.Outcome{
		{Which: l.Which[0], State: queue.Delivered, At: noon, Reply: mail.NewReply(250, "2.0.0", "ok")},
		{Which: l.Which[1], State: queue.Waiting, At: noon, Next: later, Reply: busy},
		{Which: l.Which[2], State: queue.Failed, At: noon, Reply: dead},
		{Which: l.Which[3], State: queue.Withheld, At: noon, Note: "anna may no longer send"},
	}
	bad := slices.Clone(outcomes)
	bad[3].Recipient = 7
	if _, err := r.Settle(t.Context(), l, bad...); err == nil {
		t.Error("an outcome of no delivery was taken")
	}
	r.settle(l, 2, outcomes...)
	r.reopen()
	m := r.show(id)
	for i, o := range outcomes {
		d := m.To[i].Goes[0]
		attempts := 1
		if o.State == queue.Withheld {
			attempts = 0
		}
		if d.State != o.State || d.Reply.String() != o.Reply.String() || d.Note != o.Note || !d.Next.Equal(o.Next) || !d.At.Equal(noon) || d.Attempts != attempts {
			t.Errorf("delivery %d: %+v, want %+v", i, d, o)
		}
	}
	r.state(id, queue.Deferred)
	if list := r.lease(queue.Ask{Now: later.Add(-1)}); len(list) != 0 {
		t.Error("leased before it was due")
	}
	l = r.lease(queue.Ask{Now: later})[0]
	if want := []queue.Which{{Recipient: 1}}; !reflect.DeepEqual(l.Which, want) {
		t.Fatalf("the second lease is for %v, want %v", l.Which, want)
	}
	if _, err := r.Settle(t.Context(), l, queue.Outcome{Which: queue.Which{Recipient: 3}, State: queue.Delivered}); err == nil {
		t.Error("what was not leased was settled")
	}
	r.settle(l, 1, all(l, queue.Outcome{State: queue.Delivered, At: later})...)
	r.state(id, queue.Held)
	if n, err := r.Release(t.Context(), id); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	l = r.lease(queue.Ask{Now: later})[0]
	r.settle(l, 0, all(l, queue.Outcome{State: queue.Failed, At: later})...)
	r.gone(id)
	if err := r.Whole(t.Context()); err != nil {
		t.Error(err)
	}
}

func (e Engine) testNext(t *testing.T) {
	r := e.room(t, Options{})
	next := func(want time.Time, except ...string) {
		t.Helper()
		at, ok, err := r.Next(t.Context(), except)
		if err != nil || ok == want.IsZero() || ok && at.After(want) || want.After(noon) && !at.Equal(want) {
			t.Errorf("next is %v, %v, %v; want %v", at, ok, err, want)
		}
	}
	changed := func(want bool) {
		t.Helper()
		got := false
		select {
		case <-r.Changed():
			got = true
		default:
		}
		if got != want {
			t.Errorf("changed: %v, want %v", got, want)
		}
	}
	next(time.Time{})
	changed(false)
	r.put(nil, "<b@far.example>")
	changed(true)
	next(noon)
	next(time.Time{}, "far.example")
	l := r.lease(queue.Ask{Until: noon.Add(time.Minute)})[0]
	next(noon.Add(time.Minute))
	r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(time.Hour)})...)
	next(noon.Add(time.Hour))
	changed(true)
	if _, err := r.Retry(t.Context(), l.Message.ID); err != nil {
		t.Fatal(err)
	}
	changed(true)
	next(noon)
	r.put(nil, "<b@near.example>")
	next(noon, "far.example")
}

func (e Engine) testDesk(t *testing.T) {
	r := e.room(t, Options{})
	id, other := r.put(nil, "<b@far.example>"), r.put(nil, "<b@far.example>")
	none := queue.NewID()
	if n, err := r.Hold(t.Context(), "asked by anna", id, none); n != 1 || err != nil {
		t.Fatalf("Hold: %d, %v", n, err)
	}
	r.reopen()
	r.state(id, queue.Held)
	if m := r.show(id); m.Hold != "asked by anna" {
		t.Errorf("held because %q", m.Hold)
	}
	if list := r.lease(queue.Ask{}); len(list) != 1 || list[0].Message.ID != other {
		t.Fatalf("leased %d", len(list))
	}
	if n, err := r.Release(t.Context(), id, none); n != 1 || err != nil {
		t.Fatalf("Release: %d, %v", n, err)
	}
	l := r.lease(queue.Ask{})[0]
	if n, err := r.Hold(t.Context(), "too late", id); n != 1 || err != nil {
		t.Fatalf("Hold: %d, %v", n, err)
	}
	r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(time.Hour)})...)
	r.state(id, queue.Held)
	if n, err := r.Release(t.Context(), id); n != 1 || err != nil {
		t.Fatalf("Release: %d, %v", n, err)
	}
	expires, lane := noon.Add(24*time.Hour), queue.Urgent
	if n, err := r.Change(t.Context(), queue.Change{Expires: &expires, Lane: &lane}, id, none); n != 1 || err != nil {
		t.Fatalf("Change: %d, %v", n, err)
	}
	if m := r.show(id); !m.Expires.Equal(expires) || m.Lane != lane {
		t.Errorf("changed to %v, %v", m.Expires, m.Lane)
	}
	l = r.lease(queue.Ask{})[0]
	if n, err := r.Delete(t.Context(), id, none); n != 1 || err != nil {
		t.Fatalf("Delete: %d, %v", n, err)
	}
	r.gone(id)
	if _, err := r.Settle(t.Context(), l, all(l, queue.Outcome{State: queue.Delivered})...); !errors.Is(err, queue.ErrNoSuchID) {
		t.Errorf("what was deleted was settled: %v", err)
	}
}

func (e Engine) testMany(t *testing.T) {
	r := e.room(t, Options{})
	const sessions, each = 32, 12
	var putters, deliverers sync.WaitGroup
	done := make(chan struct{})
	var mu sync.Mutex
	seen := map[string]int{}
	for i := range sessions {
		putters.Go(func() {
			for j := range each {
				l := NewLetter(noon, "<a@ours.example>", fmt.Sprintf("<b@d%d.example>", (i+j)%7), "<c@far.example>")
				if _, err := r.Put(t.Context(), l, bytes.NewReader(Text(uint64(i), 500*j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 4 {
		deliverers.Go(func() {
			for {
				list, err := r.Lease(t.Context(), queue.Ask{Owner: fmt.Sprint(i), Now: noon, Until: noon.Add(time.Minute), Max: 5})
				if err != nil {
					t.Error(err)
					return
				}
				for _, l := range list {
					mu.Lock()
					seen[l.Message.ID+l.Destination]++
					mu.Unlock()
					if _, err := r.Settle(t.Context(), l, all(l, queue.Outcome{State: queue.Delivered})...); err != nil {
						t.Error(err)
					}
				}
				if len(list) > 0 {
					continue
				}
				select {
				case <-done:
					return
				case <-r.Changed():
				}
			}
		})
	}
	putters.Wait()
	close(done)
	deliverers.Wait()
	for _, l := range r.lease(queue.Ask{}) {
		seen[l.Message.ID+l.Destination]++
		if _, err := r.Settle(t.Context(), l, all(l, queue.Outcome{State: queue.Delivered})...); err != nil {
			t.Error(err)
		}
	}
	for what, n := range seen {
		if n != 1 {
			t.Errorf("%s was given out %d times", what, n)
		}
	}
	if len(seen) != 2*sessions*each {
		t.Errorf("%d deliveries were given out, want %d", len(seen), 2*sessions*each)
	}
	if s, err := r.Stats(t.Context()); err != nil || s.Octets != 0 {
		t.Errorf("stats at the end: %+v, %v", s, err)
	}
}
