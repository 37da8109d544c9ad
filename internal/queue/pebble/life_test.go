package pebble_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"postern/internal/fault"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
	"postern/mail"
)

// sameLife compares lives, too.
var sameLife = append(slices.Clone(same), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))

func lives(t testing.TB) map[string]queue.Life {
	plain, whole := messages(t)["plain"], messages(t)["all of it"]
	tried := queue.Event{At: noon, Kind: queue.Attempted, State: queue.Delivered, Reply: mail.NewReply(250, "2.0.0", "ok")}
	second, third := tried, tried
	second.Which.Recipient, third.Which = 1, queue.Which{Recipient: 1, Index: 2}
	other := second
	other.Via = queue.Via{Host: "mx.far.example", Addr: netip.MustParseAddrPort("192.0.2.1:25"), TLS: "TLS 1.3", Took: -time.Second}
	put := queue.Event{At: noon, Kind: queue.Attempted, Next: noon.Add(time.Minute), Note: "note\x00\r\n\xff"}
	return map[string]queue.Life{
		"without events": {Message: plain, Done: noon},
		"put off":        {Message: plain, Done: noon, Events: []queue.Event{put, put, tried}},
		"of many":        {Message: whole, Done: noon, Events: []queue.Event{tried, second, third, other, third, {At: noon, Kind: queue.WasHeld, Note: "why"}, {Kind: queue.WasDeleted}}},
	}
}

func TestLife(t *testing.T) {
	for name, l := range lives(t) {
		b := pebble.Life(l)
		got, err := pebble.ParseLife(b)
		if diff := cmp.Diff(l, got, sameLife); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 0x10
			if _, err := pebble.ParseLife(bad); err == nil {
				t.Errorf("%s: a flipped bit in octet %d was not seen", name, i)
			}
			if _, err := pebble.ParseLife(b[:i]); err == nil {
				t.Errorf("%s: the first %d octets of %d were taken for all", name, i, len(b))
			}
		}
	}
}

// One reply for a hundred recipients is kept once.
func TestRepliesAreKeptOnce(t *testing.T) {
	size := func(n int) int {
		m := messages(t)["plain"]
		l := queue.Life{Message: m, Done: noon}
		m.To = slices.Repeat(m.To, n)
		for i := range n {
			l.Events = append(l.Events, queue.Event{At: noon, Kind: queue.Attempted, Which: queue.Which{Recipient: i}, Note: strings.Repeat("x", 1000)})
		}
		return len(pebble.Life(l))
	}
	if more := size(100) - size(1); more > 500 {
		t.Errorf("99 more recipients cost %d octets", more)
	}
}

func TestLivesMadeByHand(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*queue.Life)
		want   string
	}{
		{"no end", func(l *queue.Life) { l.Done = time.Time{} }, "without its end"},
		{"no grant", func(l *queue.Life) { l.Message.To[0].Grant.Reason = "" }, "without a grant"},
		{"an attempt of no delivery", func(l *queue.Life) { l.Events[0].Which.Recipient = 1 }, "no delivery"},
		{"an event of no kind", func(l *queue.Life) { l.Events[0].Kind = 0 }, "no kind"},
		{"a kind that is none", func(l *queue.Life) { l.Events[0].Kind = 9 }, "kind 9"},
		{"a state that is none", func(l *queue.Life) { l.Events[0].State = 9 }, "state 9"},
	} {
		l := lives(t)["put off"]
		c.change(&l)
		if _, err := pebble.ParseLife(pebble.Life(l)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzLife(f *testing.F) {
	for _, l := range lives(f) {
		b := pebble.Life(l)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := pebble.ParseLife(sealed(b))
		if err != nil {
			return
		}
		again, err := pebble.ParseLife(pebble.Life(l))
		if diff := cmp.Diff(l, again, sameLife); err != nil || diff != "" {
			t.Errorf("it does not come back: %v\n%s", err, diff)
		}
	})
}

// A store of format 1 is taken over with what waits in it: its records are
// read as the program of that format wrote them.
func TestFormat1(t *testing.T) {
	disk := vfs.NewMem()
	q := open(t, disk, nil)
	old, err := os.ReadFile("testdata/record/1")
	if err != nil {
		t.Fatal(err)
	}
	const id = "06H106FFRZWMQPT7"
	err = errors.Join(q.SetValue("m"+id, old), q.SetValue("b"+id+"\x00\x00\x00\x00", []byte("hello world")), q.SetValue("f", []byte{1}), q.Close(),
		disk.Remove("/queue/ledger"), disk.Remove("/queue.made")) // which that program did not make
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := pebble.Verify(t.Context(), pebble.Options{Dir: "/queue", FS: disk}); err != nil || len(sum.Faults) > 0 || sum.Messages != 1 {
		t.Errorf("before the upgrade: %+v, %v", sum, err)
	}
	q = open(t, disk, nil)
	if v, err := q.Value("f"); err != nil || !bytes.Equal(v, []byte{3}) {
		t.Errorf("the format is %v, %v", v, err)
	}
	l := lease(t, q)[0]
	m := l.Message
	if m.ID != id || m.Name != "" || m.To[0].Goes[0].Attempts != 1 || m.To[0].Goes[0].Reply.String() != "451 4.7.1 greylisted" || len(m.To[1].Goes) != 3 || m.Origin.Identity != "anna" {
		t.Fatalf("the message came over as %+v", m)
	}
	for _, when := range []string{"waiting", "after an attempt", "done"} {
		list, _, err := q.Find(t.Context(), queue.Search{To: "b@far.example"}, queue.Page{})
		if err != nil || len(list) != 1 || list[0].Message.ID != id || list[0].Done.IsZero() == (when == "done") {
			t.Errorf("%s: found %+v, %v", when, list, err)
		}
		if sum, err := q.Verify(t.Context()); err != nil || len(sum.Faults) > 0 {
			t.Errorf("%s: %+v, %v", when, sum, err)
		}
		switch when {
		case "waiting":
			_, err = q.Settle(t.Context(), l, queue.Outcome{Which: l.Which[0], State: queue.Waiting, At: noon, Next: noon})
		case "after an attempt":
			_, err = q.Delete(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	undo := pebble.SetFormat1()
	defer undo()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(pebble.Options{Dir: "/queue", FS: disk}); err == nil || !strings.Contains(err.Error(), "the queue has format 3, and this program knows only up to 1") {
		t.Errorf("the program of format 1 on a store of format 3: %v", err)
	}
}

// settled puts a message and delivers it, and returns its id.
func settled(t *testing.T, q *pebble.Queue) string {
	t.Helper()
	id := put(t, q, 100)
	for _, l := range lease(t, q) {
		if _, err := q.Settle(t.Context(), l, queue.Outcome{Which: l.Which[0], State: queue.Delivered, At: noon}); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

func TestVerifyFindsInTheHistory(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(id, gone string) (key string, value []byte)
		want   string
	}{
		{"nothing", func(string, string) (string, []byte) { return "none", nil }, ""},
		{"a damaged event", func(id, _ string) (string, []byte) { return "e" + id + "\x00\x00\x00\x00", []byte("x") }, "event 0 is missing or damaged"},
		{"a missing event", func(id, _ string) (string, []byte) { return "e" + id + "\x00\x00\x00\x01", nil }, "has 1 parts, where 2 were stored"},
		{"an event of nothing", func(_, gone string) (string, []byte) { return "e" + gone + "\x00\x00\x00\x00", []byte("x") }, "events without a record"},
		{"a damaged life", func(_, gone string) (string, []byte) { return "h" + gone, []byte("x") }, "the history of message"},
		{"a word that leads nowhere", func(string, string) (string, []byte) { return "i1234", []byte{} }, "a word without an id"},
	} {
		q := open(t, vfs.NewMem(), nil)
		gone := settled(t, q)
		id := put(t, q, 100)
		for _, do := range []func() (int, error){
			func() (int, error) { return q.Hold(t.Context(), "why", id) },
			func() (int, error) { return q.Release(t.Context(), id) },
		} {
			if _, err := do(); err != nil {
				t.Fatal(err)
			}
		}
		k, v := c.damage(id, gone)
		if err := q.SetValue(k, v); err != nil {
			t.Fatal(err)
		}
		sum, err := q.Verify(t.Context())
		found := errors.Join(sum.Faults...)
		if err != nil || sum.Lives != 1 || c.want == "" && found != nil || c.want != "" && (found == nil || !strings.Contains(found.Error(), c.want)) {
			t.Errorf("%s: found %v, %v in %d lives; want %q", c.name, found, err, sum.Lives, c.want)
		}
		// Whatever its history is, a message leaves.
		for _, l := range lease(t, q) {
			if left, err := q.Settle(t.Context(), l, queue.Outcome{Which: l.Which[0], State: queue.Delivered, At: noon}); left != 0 || err != nil {
				t.Errorf("%s: Settle: %d, %v", c.name, left, err)
			}
		}
		if l, err := q.Life(t.Context(), id); err != nil || l.Done.IsZero() {
			t.Errorf("%s: the life: %+v, %v", c.name, l, err)
		}
		if list, _, err := q.Find(t.Context(), queue.Search{}, queue.Page{}); err != nil || len(list) == 0 || list[0].Message.ID != id {
			t.Errorf("%s: found %d, %v", c.name, len(list), err)
		}
	}
}

// Two words of one hash are told apart by reading.
func TestWordsOfOneHash(t *testing.T) {
	q := open(t, vfs.NewMem(), nil)
	other := settled(t, q)
	l := queuetest.NewLetter(noon, "<a@ours.example>", "<c@far.example>")
	if _, err := q.Put(t.Context(), l, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Delete(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{other, queue.NewID()} { // one of another recipient, and one that is forgotten
		if err := q.SetValue(pebble.Word("c@far.example", id), nil); err != nil {
			t.Fatal(err)
		}
		if err := q.SetValue(pebble.Word("c@far.example", id), []byte{}); err != nil {
			t.Fatal(err)
		}
	}
	list, next, err := q.Find(t.Context(), queue.Search{To: "c@far.example"}, queue.Page{})
	if err != nil || len(list) != 1 || list[0].Message.ID != l.ID || next != "" {
		t.Errorf("found %d, next %q, %v", len(list), next, err)
	}
}

func TestHistoryIsForgottenToTheLastKey(t *testing.T) {
	q := open(t, vfs.NewMem(), nil)
	for range 3 {
		settled(t, q)
	}
	n, err := q.Keys()
	if err != nil || n['h'] != 3 || n['i'] != 9 || n['e'] != 0 {
		t.Errorf("three lives have the keys %v, %v", n, err)
	}
	if _, err := q.Forget(t.Context(), time.Now().Add(48*time.Hour), 1<<20); err != nil {
		t.Fatal(err)
	}
	if n, err = q.Keys(); err != nil || n['h']+n['i'] != 0 {
		t.Errorf("what is left: %v, %v", n, err)
	}
}

// The history of a relay that does not run is read from its folder, also after
// it was killed.
func TestPast(t *testing.T) {
	disk := fault.NewDisk()
	q := open(t, disk, nil)
	gone, waits := settled(t, q), put(t, q, 100)
	left := disk.PowerLoss(0, nil)
	p, err := pebble.OpenPast(pebble.Options{Dir: "/queue", FS: left})
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := p.Find(t.Context(), queue.Search{Address: "b@far.example"}, queue.Page{})
	if err != nil || len(list) != 2 || list[0].Message.ID != waits || list[0].Message.State != queue.Fresh || list[1].Message.ID != gone {
		t.Errorf("found %+v, %v", list, err)
	}
	if l, err := p.Life(t.Context(), gone); err != nil || l.Done.IsZero() {
		t.Errorf("the life: %+v, %v", l, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	undo := pebble.SetFormat1()
	_, err = pebble.OpenPast(pebble.Options{Dir: "/queue", FS: left})
	undo()
	if err == nil || !strings.Contains(err.Error(), "format 3") {
		t.Errorf("a newer store: %v", err)
	}
	if _, err := pebble.OpenPast(pebble.Options{Dir: "/nothing", FS: left}); err == nil {
		t.Error("the history of nothing was opened")
	}
}
