package queuetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/mail"
)

// letterAt returns a letter that was begun, and received, at the given time.
func letterAt(at time.Time, from string, to ...string) queue.Letter {
	l := NewLetter(at, from, to...)
	l.ID = queue.FirstID(at)[:10] + l.ID[10:]
	return l
}

func (r *room) life(id string) queue.Life {
	r.Helper()
	l, err := r.Life(r.Context(), id)
	if err != nil {
		r.Fatalf("Life of %s: %v", id, err)
	}
	return l
}

// told writes a life in one line: its events, and whether the message is gone.
func told(l queue.Life) string {
	var words []string
	for _, e := range l.Events {
		s := [...]string{queue.Attempted: "tried", queue.WasHeld: "held", queue.WasReleased: "released", queue.WasRetried: "retried", queue.WasDeleted: "deleted"}[e.Kind]
		if e.Kind == queue.Attempted {
			s = fmt.Sprintf("%d.%d %v", e.Which.Recipient, e.Which.Index, e.State)
		}
		words = append(words, s)
	}
	if !l.Done.IsZero() {
		words = append(words, "done")
	}
	return strings.Join(words, ", ")
}

func (r *room) told(id, want string) {
	r.Helper()
	if got := told(r.life(id)); got != want {
		r.Errorf("the life of %s: %s; want %s", id, got, want)
	}
}

func (e Engine) testHistory(t *testing.T) {
	r := e.room(t, Options{})
	l := NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	l.Name = "<r1@ours.example>"
	id := r.letter(l, Text(1, 3000))
	r.told(id, "")
	via := queue.Via{Host: "mx1.far.example", Addr: netip.MustParseAddrPort("[2001:db8::9]:25"), TLS: "TLS 1.3 verified", Took: 1234 * time.Millisecond}
	var want []queue.Event
	for i, o := range []queue.Outcome{
		{State: queue.Waiting, Reply: mail.Reply{Code: 451, Enhanced: mail.EnhancedCode{Class: 4, Subject: 7, Detail: 1}, Lines: []string{"greylisted", "\x1b[2J"}}, Via: via},
		{State: queue.Waiting, Note: "connection refused", Via: queue.Via{Took: time.Second}},
		{State: queue.Delivered, Reply: mail.NewReply(250, "2.0.0", "ok 7A1"), Via: via},
	} {
		o.At = noon.Add(time.Duration(i) * time.Minute)
		if o.State == queue.Waiting {
			o.Next = o.At.Add(time.Minute)
		}
		leased := r.lease(queue.Ask{Now: o.At})[0]
		left := 1
		if o.State == queue.Delivered {
			left = 0
		}
		before := r.life(id)
		if before.Message.State != queue.Active || !before.Done.IsZero() || len(before.Events) != i {
			t.Errorf("before attempt %d: %v, %s", i+1, before.Message.State, told(before))
		}
		r.settle(leased, left, all(leased, o)...)
		want = append(want, queue.Event{At: o.At, Kind: queue.Attempted, State: o.State, Next: o.Next, Reply: o.Reply, Note: o.Note, Via: o.Via})
		if i == 1 {
			r.reopen()
		}
	}
	r.gone(id)
	for range 2 { // as it is, and from the disk
		got := r.life(id)
		if d := time.Since(got.Done); d < 0 || d > time.Hour || len(got.Events) != len(want) {
			t.Fatalf("the life: %s, done %v", told(got), got.Done)
		}
		for i, e := range got.Events {
			if !e.At.Equal(want[i].At) || !e.Next.Equal(want[i].Next) {
				t.Errorf("event %d at %v, next %v; want %v, %v", i, e.At, e.Next, want[i].At, want[i].Next)
			}
			e.At, e.Next = want[i].At, want[i].Next
			if fmt.Sprintf("%#v", e) != fmt.Sprintf("%#v", want[i]) {
				t.Errorf("event %d is %+v, want %+v", i, e, want[i])
			}
		}
		m := got.Message
		if m.From != l.From || m.Name != l.Name || m.Size != 3000 || !m.Origin.At.Equal(noon) || m.To[0].Grant != l.To[0].Grant.Record() || m.To[0].Goes[0].State != queue.Delivered || m.To[0].Goes[0].Attempts != 3 {
			t.Errorf("the message as it left: %+v", m)
		}
		r.reopen()
	}
	if _, err := r.Life(t.Context(), queue.NewID()); !errors.Is(err, queue.ErrNoSuchID) {
		t.Errorf("the life of a message that never was: %v", err)
	}
	if err := r.Whole(t.Context()); err != nil {
		t.Error(err)
	}
}

func (e Engine) testHistoryOf(t *testing.T) {
	do := func(n int, err error) {
		t.Helper()
		if n != 1 || err != nil {
			t.Fatalf("%d messages, %v; want 1", n, err)
		}
	}
	for _, c := range []struct {
		name string
		to   []string
		hold string
		live func(r *room, id string)
		want string
	}{
		{"one reply for many", []string{"<b@far.example>", "<c@far.example>", "<d@far.example>"}, "", func(r *room, _ string) {
			l := r.lease(queue.Ask{})[0]
			out := all(l, queue.Outcome{State: queue.Delivered, At: noon, Reply: mail.NewReply(250, "2.0.0", "ok")})
			out[1].State = queue.Failed
			r.settle(l, 0, out...)
		}, "0.0 delivered, 1.0 failed, 2.0 delivered, done"},
		{"partly delivered", []string{"<b@far.example>", "<sales@ours.example>"}, "", func(r *room, _ string) {
			l := r.lease(queue.Ask{Only: []string{"far.example"}})[0]
			r.settle(l, 2, all(l, queue.Outcome{State: queue.Delivered, At: noon})...)
			l = r.lease(queue.Ask{Only: []string{"near.example"}})[0]
			r.settle(l, 2, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(time.Hour)})...)
		}, "0.0 delivered, 1.2 delivered, 1.1 waiting"},
		{"held and released", []string{"<b@far.example>"}, "", func(r *room, id string) {
			do(r.Hold(t.Context(), "asked by anna", id))
			if l := r.life(id); l.Events[0].Note != "asked by anna" || l.Message.State != queue.Held {
				t.Errorf("held: %v because %q", l.Message.State, l.Events[0].Note)
			}
			do(r.Release(t.Context(), id))
			do(r.Retry(t.Context(), id))
		}, "held, released, retried"},
		{"held as it came", []string{"<b@far.example>"}, "over its limit", func(r *room, id string) {
			if l := r.life(id); !l.Events[0].At.Equal(noon) || l.Events[0].Note != "over its limit" {
				t.Errorf("held: %+v", l.Events[0])
			}
			do(r.Release(t.Context(), id))
			l := r.lease(queue.Ask{})[0]
			r.settle(l, 0, all(l, queue.Outcome{State: queue.Failed, At: noon})...)
		}, "held, released, 0.0 failed, done"},
		{"its grant was lost", []string{"<b@far.example>"}, "", func(r *room, id string) {
			l := r.lease(queue.Ask{})[0]
			r.settle(l, 1, all(l, queue.Outcome{State: queue.Withheld, At: noon, Note: "anna may no longer send"})...)
			do(r.Release(t.Context(), id))
		}, "0.0 withheld, released"},
		{"deleted", []string{"<b@far.example>"}, "", func(r *room, id string) {
			do(r.Delete(t.Context(), id))
		}, "deleted, done"},
		{"nobody decided", []string{"<b@far.example>"}, "", func(r *room, id string) {
			do(r.Expire(t.Context(), "kept for 7 days", id))
			if l := r.life(id); l.Events[0].Note != "kept for 7 days" {
				t.Errorf("expired: %+v", l.Events)
			}
		}, "deleted, done"},
		{"nobody was asked", []string{"<b@far.example>", "<c@near.example>"}, "", func(r *room, id string) {
			for i, l := range r.lease(queue.Ask{}) {
				r.settle(l, 2, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(time.Minute), Untried: true, Note: "held: it is night"})...)
				if m := r.show(id); m.To[0].Goes[0].Attempts != 0 {
					t.Errorf("after lease %d: %d attempts", i, m.To[0].Goes[0].Attempts)
				}
			}
			lane := queue.Urgent
			do(r.Change(t.Context(), queue.Change{Lane: &lane}, id))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := e.room(t, Options{})
			l := NewLetter(noon, "<a@ours.example>", c.to...)
			l.Hold = c.hold
			id := r.letter(l, Text(1, 300))
			c.live(r, id)
			r.told(id, c.want)
			r.reopen()
			r.told(id, c.want)
			if err := r.Whole(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// testFind looks for lives of messages that wait, and again after all but one
// have left.
func (e Engine) testFind(t *testing.T) {
	r := e.room(t, Options{})
	name := map[string]string{}
	put := func(called string, at time.Time, change func(*queue.Letter), from string, to ...string) {
		l := letterAt(at, from, to...)
		if l.Origin.Identity = "anna"; change != nil {
			change(&l)
		}
		r.letter(l, []byte(called))
		name[l.ID] = called
	}
	day := 24 * time.Hour
	put("first", noon.Add(-40*day), nil, "<a@ours.example>", "<b@far.example>")
	put("late", noon.Add(-day), func(l *queue.Letter) { l.Origin.At = l.Origin.At.Add(30 * time.Minute) }, "<late@ours.example>", "<b@slow.example>")
	put("named", noon, func(l *queue.Letter) { l.Name = "<Abc.1@Pc.example>" }, "<A@Ours.example>", "<b@far.example>", "<c@near.example>")
	put("notice", noon.Add(time.Second), func(l *queue.Letter) { l.Origin.Identity, l.Name = "", "<Ü.1@Pc.example>" }, "<>", "<sales@ours.example>")
	put("same", noon.Add(time.Second+time.Millisecond), func(l *queue.Letter) { l.Origin.Identity, l.Name = "Ben", "<2@pc.example>" }, "<b@far.example>", "<b@far.example>")
	put("last", noon.Add(day), func(l *queue.Letter) { l.Name = "<Abc.1@Pc.example>" }, "<z@ours.example>", "<b@far.example>")
	cases := []struct {
		name string
		f    queue.Search
		want string
	}{
		{"all", queue.Search{}, "[last same notice named late first]"},
		{"from", queue.Search{From: "a@ours.example"}, "[named first]"},
		{"from, to", queue.Search{From: "a@ours.example", To: "c@NEAR.example"}, "[named]"},
		{"from a domain", queue.Search{From: "@ours.example"}, "[last named late first]"},
		{"from nobody", queue.Search{From: "<>"}, "[notice]"},
		{"to", queue.Search{To: "b@far.example"}, "[last same named first]"},
		{"to an alias", queue.Search{To: "sales@ours.example"}, "[notice]"},
		{"to what it stands for", queue.Search{To: "cleo@far.example"}, "[notice]"},
		{"to a domain", queue.Search{To: "@near.example"}, "[notice named]"},
		{"address", queue.Search{Address: "b@far.example"}, "[last same named first]"},
		{"address of a sender", queue.Search{Address: "late@ours.example"}, "[late]"},
		{"name", queue.Search{Name: "<abc.1@pc.example>"}, "[last named]"},
		{"name without brackets", queue.Search{Name: "abc.1@pc.example", From: "z@ours.example"}, "[last]"},
		{"name that is not ASCII", queue.Search{Name: "ü.1@pc.EXAMPLE"}, "[notice]"},
		{"a name is no address", queue.Search{Address: "abc.1@pc.example"}, "[]"},
		{"identity", queue.Search{Identity: "ben"}, "[same]"},
		{"identity, to", queue.Search{Identity: "Anna", To: "b@far.example"}, "[last named first]"},
		{"since", queue.Search{Since: noon.Add(time.Second)}, "[last same notice]"},
		{"since, of which the connection began before", queue.Search{Since: noon.Add(-day).Add(30 * time.Minute), Until: noon.Add(time.Second)}, "[named late]"},
		{"until", queue.Search{Until: noon}, "[late first]"},
		{"to, since and until", queue.Search{To: "b@far.example", Since: noon, Until: noon.Add(time.Minute)}, "[same named]"},
		{"to, within a millisecond", queue.Search{To: "b@far.example", Since: noon.Add(time.Second), Until: noon.Add(time.Second + 1001*time.Microsecond)}, "[same]"},
		{"nobody", queue.Search{To: "nobody@far.example"}, "[]"},
	}
	check := func(when string) {
		t.Helper()
		for _, c := range cases {
			for _, size := range []int{0, 1, 2} {
				var got []string
				for p := (queue.Page{Max: size}); ; {
					list, next, err := r.Find(t.Context(), c.f, p)
					if err != nil || size > 0 && len(list) > size {
						t.Fatalf("%s: %s: a page of %d, %v", when, c.name, len(list), err)
					}
					for _, l := range list {
						got = append(got, name[l.Message.ID])
					}
					if p.After = next; next == "" {
						break
					}
				}
				if fmt.Sprint(got) != c.want {
					t.Errorf("%s: %s, in pages of %d: got %v, want %s", when, c.name, size, got, c.want)
				}
			}
		}
	}
	check("all wait")
	for _, l := range r.lease(queue.Ask{Now: noon.Add(2 * day), Except: []string{"slow.example"}}) {
		if _, err := r.Settle(t.Context(), l, all(l, queue.Outcome{State: queue.Delivered, At: noon})...); err != nil {
			t.Fatal(err)
		}
	}
	check("one waits")
	r.reopen()
	check("one waits, from the disk")
	if err := r.Whole(t.Context()); err != nil {
		t.Error(err)
	}
}

func (e Engine) testForget(t *testing.T) {
	r := e.room(t, Options{})
	hour := time.Hour
	name := map[string]string{}
	var old string
	for called, ago := range map[string]time.Duration{"old": 50 * hour, "older": 80 * hour, "new": 10 * hour, "now": 0, "waits": 90 * hour} {
		l := letterAt(noon.Add(-ago), "<a@ours.example>", "<b@far.example>")
		if called == "waits" {
			l = letterAt(noon.Add(-ago), "<a@ours.example>", "<b@slow.example>")
		}
		name[r.letter(l, nil)] = called
		if called == "old" {
			old = l.ID
		}
	}
	waits := r.lease(queue.Ask{Only: []string{"slow.example"}})[0]
	r.settle(waits, 1, all(waits, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(hour)})...)
	for _, l := range r.lease(queue.Ask{Only: []string{"far.example"}}) {
		r.settle(l, 0, all(l, queue.Outcome{State: queue.Delivered, At: noon})...)
	}
	for _, c := range []struct {
		before     time.Duration
		most, many int
		want       string
	}{
		{100 * hour, 5, 0, "[now new old older waits]"},
		{100 * hour, 4, 0, "[now new old older waits]"},
		{50 * hour, 3, 0, "[now new old waits]"},
		{50 * hour, 2, 1, "[now new waits]"},
		{9 * hour, 5, 0, "[now waits]"},
		{-48 * hour, 5, 0, "[waits]"},
	} {
		if n, err := r.Forget(t.Context(), noon.Add(-c.before), c.most); err != nil || n != c.many {
			t.Fatalf("%d were too many, %v; want %d", n, err, c.many)
		}
		for _, f := range []queue.Search{{}, {From: "a@ours.example"}} {
			list, _, err := r.Find(t.Context(), f, queue.Page{})
			var got []string
			for _, l := range list {
				got = append(got, name[l.Message.ID])
			}
			if err != nil || fmt.Sprint(got) != c.want {
				t.Errorf("what is older than %v is forgotten: %+v finds %v, %v; want %s", c.before, f, got, err, c.want)
			}
		}
		r.told(waits.Message.ID, "0.0 waiting")
	}
	if _, err := r.Life(t.Context(), old); !errors.Is(err, queue.ErrNoSuchID) {
		t.Errorf("the life of what is forgotten: %v", err)
	}
	// What waited is remembered from its end on, with all that was.
	l := r.lease(queue.Ask{Now: noon.Add(hour)})[0]
	r.settle(l, 0, all(l, queue.Outcome{State: queue.Failed, At: noon})...)
	r.told(waits.Message.ID, "0.0 waiting, 0.0 failed, done")
	if err := r.Whole(t.Context()); err != nil {
		t.Error(err)
	}
	if s, err := r.Stats(t.Context()); err != nil || s.Octets != 0 || slices.Max([]int{s.Messages[queue.Fresh], s.Messages[queue.Deferred]}) != 0 {
		t.Errorf("the queue after all: %+v, %v", s, err)
	}
}
