package queuetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/mail"
)

func (e Engine) testList(t *testing.T) {
	r := e.room(t, Options{})
	name := map[string]string{}
	put := func(called string, at time.Time, from string, to ...string) string {
		l := NewLetter(at, from, to...)
		r.letter(l, []byte(called))
		name[l.ID] = called
		return l.ID
	}
	put("plain", noon, "<a@ours.example>", "<b@far.example>")
	held := put("held", noon, "<a@ours.example>", "<c@near.example>")
	tried := put("tried", noon.Add(time.Hour), "<z@ours.example>", "<b@slow.example>")
	put("notice", noon.Add(2*time.Hour), "<>", "<sales@ours.example>")
	active := put("active", noon.Add(3*time.Hour), "<a@ours.example>", "<b@busy.example>")
	l := r.lease(queue.Ask{Only: []string{"slow.example"}})[0]
	r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(time.Hour), Reply: mail.NewReply(450, "4.2.1", "Mailbox is BUSY")})...)
	r.lease(queue.Ask{Only: []string{"busy.example"}})
	if _, err := r.Hold(t.Context(), "spam", held); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		f    queue.Filter
		want string
	}{
		{"all", queue.Filter{}, "[plain held tried notice active]"},
		{"from one", queue.Filter{From: "A@ours.example"}, "[plain held active]"},
		{"from a domain", queue.Filter{From: "@ours.example"}, "[plain held tried active]"},
		{"notices", queue.Filter{From: "<>"}, "[notice]"},
		{"part of a name is not the name", queue.Filter{From: "ours.example"}, "[]"},
		{"to one", queue.Filter{To: "b@far.example"}, "[plain]"},
		{"to an alias", queue.Filter{To: "sales@ours.example"}, "[notice]"},
		{"to what an alias stands for", queue.Filter{To: "cleo@far.example"}, "[notice]"},
		{"to a domain", queue.Filter{To: "@far.example"}, "[plain notice]"},
		{"destination", queue.Filter{Destination: "near.example"}, "[held notice]"},
		{"destination and sender", queue.Filter{Destination: "near.example", From: "<>"}, "[notice]"},
		{"reason", queue.Filter{Reason: "inbound"}, "[notice]"},
		{"who", queue.Filter{Who: "anna"}, "[plain held tried active]"},
		{"fresh", queue.Filter{State: queue.Fresh}, "[plain notice]"},
		{"active", queue.Filter{State: queue.Active}, "[active]"},
		{"deferred", queue.Filter{State: queue.Deferred}, "[tried]"},
		{"held", queue.Filter{State: queue.Held}, "[held]"},
		{"before", queue.Filter{Before: noon.Add(time.Hour)}, "[plain held]"},
		{"after", queue.Filter{After: noon.Add(2 * time.Hour)}, "[notice active]"},
		{"reply", queue.Filter{Reply: "mailbox is busy"}, "[tried]"},
		{"nothing", queue.Filter{Destination: "none.example"}, "[]"},
	} {
		for _, size := range []int{0, 1, 2} { // in one page, and in many
			var got []string
			for p := (queue.Page{Max: size}); ; {
				list, next, err := r.List(t.Context(), c.f, p)
				if err != nil || size > 0 && len(list) > size {
					t.Fatalf("%s: a page of %d, %v", c.name, len(list), err)
				}
				for _, m := range list {
					got = append(got, name[m.ID])
				}
				if p.After = next; next == "" {
					break
				}
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%s, in pages of %d: got %v, want %s", c.name, size, got, c.want)
			}
		}
	}
	r.state(tried, queue.Deferred)
	r.state(active, queue.Active)
}

func (e Engine) testSums(t *testing.T) {
	r := e.room(t, Options{})
	if s, err := r.Stats(t.Context()); err != nil || s.Octets != 0 || !s.Oldest.IsZero() {
		t.Errorf("an empty queue: %+v, %v", s, err)
	}
	first := r.put(Text(1, 1000), "<b@far.example>")
	r.put(Text(1, 200), "<b@far.example>", "<c@near.example>")
	held := r.put(Text(1, 30), "<b@near.example>")
	r.put(Text(1, 4), "<b@far.example>")
	if _, err := r.Hold(t.Context(), "why", held); err != nil {
		t.Fatal(err)
	}
	l := r.lease(queue.Ask{Only: []string{"far.example"}, Max: 1})[0]
	r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(time.Hour), Note: "no route"})...)
	r.lease(queue.Ask{Only: []string{"far.example"}, Max: 1})
	check := func(active int) {
		t.Helper()
		s, err := r.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(map[queue.State]int{queue.Fresh: 2 - active, queue.Active: active, queue.Deferred: 1, queue.Held: 1})
		if got := fmt.Sprint(s.Messages); got != want || s.Octets != 1234 || !s.Oldest.Equal(queue.TimeOf(first)) || s.Corrupt != 0 {
			t.Errorf("stats: %s, %+v; want %s", got, s, want)
		}
		list, err := r.Destinations(t.Context())
		if err != nil || len(list) != 2 {
			t.Fatal(list, err)
		}
		d := list[0]
		if d.Name != "far.example" || d.Messages != 3 || d.Active != active || d.Oldest != first || d.Reply != "no route" || !d.ReplyAt.Equal(noon) {
			t.Errorf("the first destination is %+v", d)
		}
		if d := list[1]; d.Name != "near.example" || d.Messages != 2 || d.Held != 1 || d.Reply != "" {
			t.Errorf("the second destination is %+v", d)
		}
	}
	check(1)
	r.reopen()
	check(0)
	if n, err := r.Delete(t.Context(), slices.Collect(ids(r))...); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	s, err := r.Stats(t.Context())
	list, err2 := r.Destinations(t.Context())
	if err != nil || err2 != nil || s.Octets != 0 || !s.Oldest.IsZero() || len(list) != 0 {
		t.Errorf("after all was deleted: %+v, %v", s, list)
	}
}

// ids returns the ids of all messages.
func ids(r *room) func(yield func(string) bool) {
	list, _, err := r.List(r.Context(), queue.Filter{}, queue.Page{Max: 1 << 20})
	if err != nil {
		r.Fatal(err)
	}
	return func(yield func(string) bool) {
		for _, m := range list {
			if !yield(m.ID) {
				return
			}
		}
	}
}
