package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
	"postern/internal/state"
	"postern/mail"
)

// lived makes a state folder with a queue in which messages have lived, and
// returns their ids.
func lived(t *testing.T, live ...func(q *pebble.Queue, l queue.Lease)) (dir string, ids []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "s")
	folder := must(state.Open(dir))
	q := must(pebble.Open(pebble.Options{Dir: folder.Join("queue")}))
	for i, do := range live {
		at := time.Date(2026, 11, 24, 14, i, 2, 204e6, time.UTC)
		l := queuetest.NewLetter(at, "<a@ours.example>", "<b@far.example>", "<c@slow.example>")
		l.Name = fmt.Sprintf("<r%d@ours.example>", i)
		must(q.Put(t.Context(), l, strings.NewReader("text")))
		for _, leased := range must(q.Lease(t.Context(), queue.Ask{Now: at, Until: at.Add(time.Minute), Max: 2})) {
			do(q, leased)
		}
		ids = append(ids, l.ID)
	}
	if err := errors.Join(q.Close(), folder.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, ids
}

var attempted = time.Date(2026, 11, 24, 14, 2, 11, 311e6, time.UTC)

func settle(t *testing.T, q *pebble.Queue, l queue.Lease, o queue.Outcome) {
	t.Helper()
	o.Which, o.At = l.Which[0], attempted
	if o.State == queue.Waiting {
		o.Next = attempted.Add(5 * time.Minute)
	}
	must(q.Settle(t.Context(), l, o))
}

// The names are those that programs read: they are added to, never changed.
func TestTraceView(t *testing.T) {
	dir, ids := lived(t, func(q *pebble.Queue, l queue.Lease) {
		o := queue.Outcome{
			State: queue.Delivered, Reply: mail.NewReply(250, "2.0.0", "ok 7A1"),
			Via: queue.Via{Host: "mx1.far.example", Addr: netip.MustParseAddrPort("198.51.100.9:25"), TLS: "TLS 1.3 verified", Took: 107 * time.Millisecond},
		}
		if l.Destination == "slow.example" {
			o = queue.Outcome{State: queue.Waiting, Reply: mail.NewReply(451, "4.7.1", "greylisted")}
		}
		settle(t, q, l, o)
	})
	h, done, err := OpenTraces(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := must(h.Traces(t.Context(), url.Values{"id": {ids[0]}})).Messages[0]
	var again *state.HeldError
	if _, _, err := OpenTraces(dir); !errors.As(err, &again) {
		t.Errorf("opened twice: %v", err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	// In which order two destinations are served is not promised.
	if got.Events[0].To != "b@far.example" {
		got.Events[0], got.Events[1] = got.Events[1], got.Events[0]
	}
	for i := range got.Events {
		got.Events[i].At, got.Events[i].Next = got.Events[i].At.UTC(), got.Events[i].Next.UTC()
	}
	got.ID, got.Session, got.Accepted = "ID", "SESSION", got.Accepted.UTC()
	for i := range got.To {
		for j := range got.To[i].Goes {
			got.To[i].Goes[j].Next = got.To[i].Goes[j].Next.UTC()
		}
	}
	text := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(must(json.Marshal(got))))
	want := `{"id":"ID","state":"deferred","message_id":"<r0@ours.example>","accepted":"2026-11-24T14:00:02.204Z","from":"<a@ours.example>","size":4,` +
		`"session":"SESSION","listener":"submission","peer":"192.0.2.7","helo":"pc.ours.example","identity":"anna","tls":"TLS 1.3","to":[` +
		`{"recipient":"<b@far.example>","reason":"authenticated","who":"anna","goes":[{"to":"b@far.example","state":"delivered","attempts":1}]},` +
		`{"recipient":"<c@slow.example>","reason":"authenticated","who":"anna","goes":[{"to":"c@slow.example","state":"waiting","attempts":1,"next":"2026-11-24T14:07:11.311Z","waits":{"for":"turn","why":"it is due, and no relay runs"}}]}],` +
		`"events":[{"at":"2026-11-24T14:02:11.311Z","event":"delivered","to":"b@far.example","attempt":1,"reply":"250 2.0.0 ok 7A1","host":"mx1.far.example","addr":"198.51.100.9:25","tls":"TLS 1.3 verified","took_ms":107},` +
		`{"at":"2026-11-24T14:02:11.311Z","event":"deferred","to":"c@slow.example","attempt":1,"next":"2026-11-24T14:07:11.311Z","reply":"451 4.7.1 greylisted"}]}`
	if text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestTraceStates(t *testing.T) {
	all := func(s queue.DeliveryState) func(*pebble.Queue, queue.Lease) {
		return func(q *pebble.Queue, l queue.Lease) { settle(t, q, l, queue.Outcome{State: s}) }
	}
	dir, _ := lived(t, all(queue.Delivered), all(queue.Failed), all(queue.Withheld), all(queue.Waiting),
		func(q *pebble.Queue, l queue.Lease) {
			s := queue.Delivered
			if l.Destination == "slow.example" {
				s = queue.Failed
			}
			settle(t, q, l, queue.Outcome{State: s})
		},
		func(q *pebble.Queue, l queue.Lease) { must(q.Delete(t.Context(), l.Message.ID)) },
		func(q *pebble.Queue, l queue.Lease) {
			if l.Destination == "slow.example" {
				must(q.Hold(t.Context(), "why", l.Message.ID))
			}
		})
	h, done, err := OpenTraces(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { must(0, done()) }()
	var states []string
	search := url.Values{"address": {"b@far.example"}, "max": {"2"}}
	for {
		page := must(h.Traces(t.Context(), search))
		for _, m := range page.Messages {
			states = append(states, m.State)
		}
		if page.Next == "" {
			break
		}
		search.Set("after", page.Next)
	}
	if got, want := fmt.Sprint(states), "[held deleted partly deferred held failed delivered]"; got != want {
		t.Errorf("the newest first: %s, want %s", got, want)
	}
	for text, search := range map[string]url.Values{
		`since: parsing time "noon"`:                {"since": {"noon"}},
		`until: parsing time "2026-11-24 12:00:00"`: {"until": {"2026-11-24 12:00:00"}},
	} {
		if _, err := h.Traces(t.Context(), search); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %q", search, err, text)
		}
	}
	for _, id := range []string{"../../etc/passwd", queue.NewID()} {
		if page, err := h.Traces(t.Context(), url.Values{"id": {id}}); err != nil || len(page.Messages) != 0 {
			t.Errorf("%s: %+v, %v", id, page, err)
		}
	}
	if _, _, err := OpenTraces(t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a folder without a queue: %v", err)
	}
}

// A relay that runs is asked, and what it says is there after it has stopped.
func TestTraceOfARelay(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	s.Hold = "held for the test"
	r := run(t, s)
	c := r.dial("mx")
	r.send(c, "<a@far.example>", "<anna@example.org>")
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	control := Dial(r.state)
	page := must(control.Traces(t.Context(), url.Values{"to": {"anna@example.org"}}))
	if len(page.Messages) != 1 || page.Messages[0].From != "<a@far.example>" || page.Messages[0].Helo != "client.example" {
		t.Fatalf("found %+v", page)
	}
	id := page.Messages[0].ID
	trace := func(id string) (got Trace, err error) {
		err = control.Get(t.Context(), "/trace/"+id, &got)
		return got, err
	}
	if got := must(trace(id)); got.ID != id || got.To[0].Reason != "inbound" {
		t.Errorf("the trace is %+v", got)
	}
	for id, text := range map[string]string{"etc": "not the id of a message", queue.NewID(): "is known: it never was, or it left"} {
		if _, err := trace(id); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", id, err, text)
		}
	}
	// It forgets what is old, and only that.
	old := queuetest.NewLetter(time.Now(), "<old@ours.example>", "<b@far.example>")
	old.ID = queue.FirstID(time.Now().Add(-31 * 24 * time.Hour))[:10] + old.ID[10:]
	must(r.queue.Put(t.Context(), old, strings.NewReader("")))
	must(r.queue.Delete(t.Context(), old.ID))
	if _, err := trace(old.ID); err != nil {
		t.Error(err)
	}
	if err := r.forget(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := trace(old.ID); err == nil {
		t.Error("what is 31 days old is remembered")
	}
	if _, err := trace(id); err != nil {
		t.Error(err)
	}
}
