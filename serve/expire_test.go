package serve

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/deliver"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/queue/queuetest"
)

// What failed, of which nobody can be told, goes after a while, and not without
// a word. All else that is held stays.
func TestWhatNobodyDecidesAboutExpires(t *testing.T) {
	var log strings.Builder
	q := must(pebble.Open(pebble.Options{Dir: "queue", FS: vfs.NewMem(), Usage: func() (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }}))
	defer func() { must(0, q.Close()) }()
	r := &Relay{queue: q, since: time.Now(), o: Options{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	const day, failed = 24 * time.Hour, "failed: 550 5.7.1 spam; no notice: who sent it is not proven, and a stranger is not written to"
	put := func(ago time.Duration, note, hold string) string {
		now := time.Now()
		l := queuetest.NewLetter(now.Add(-ago), "<x@far.example>", "<anna@ours.example>")
		l.Hold = hold
		must(q.Put(t.Context(), l, strings.NewReader("text")))
		for _, leased := range must(q.Lease(t.Context(), queue.Ask{Now: now, Until: now.Add(time.Minute), Max: 1})) {
			must(q.Settle(t.Context(), leased, queue.Outcome{Which: leased.Which[0], State: queue.Withheld, At: now.Add(-ago), Note: note}))
		}
		return l.ID
	}
	week, six := put(7*day+time.Minute, failed, ""), put(6*day, failed, "")
	lost := put(30*day, "its grant for <anna@ours.example> was withdrawn", "")
	byRoute := put(30*day, "held by its route: the route says hold", "")
	operators := put(30*day, "", "held by the operator")
	for _, c := range []struct {
		withheld time.Duration
		want     []string
	}{
		{-1, []string{week, six, lost, byRoute, operators}},
		{0, []string{six, lost, byRoute, operators}},
		{5 * day, []string{lost, byRoute, operators}},
	} {
		r.current.Store(&generation{settings: Settings{Delivery: Delivery{Lifetimes: deliver.Lifetimes{Withheld: c.withheld}}}})
		if err := r.expire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var left []string
		list, _, err := q.List(t.Context(), queue.Filter{}, queue.Page{})
		for i := range list {
			left = append(left, list[i].ID)
		}
		if err != nil || fmt.Sprint(left) != fmt.Sprint(c.want) {
			t.Errorf("withheld for %v: %v left, %v; want %v", c.withheld, left, err, c.want)
		}
	}
	life := must(q.Life(t.Context(), week))
	view := traceOf(&life, nil)
	if e := view.Events[len(view.Events)-1]; view.State != "expired" || e.Event != "expired" || !strings.Contains(e.Note, "nobody decided about it for 168h0m0s") {
		t.Errorf("the trace: %s, %+v", view.State, e)
	}
	if !strings.Contains(log.String(), "message="+week) || strings.Contains(log.String(), lost) {
		t.Errorf("the log: %s", log.String())
	}
}
