package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/fault"
	"postern/internal/queue"
)

// A ledger is what clients were told: of each id whether it was accepted, and
// whether it was settled since.
type ledger struct {
	mu    sync.Mutex
	texts map[string][]byte // accepted, and not known to be settled
	maybe map[string]bool   // settling was begun: it may be there or not
	gone  map[string]bool   // refused, or settled for good: it must not be there
	left  map[string]bool   // of these settled: its life is known
}

func newLedger() *ledger {
	return &ledger{texts: map[string][]byte{}, maybe: map[string]bool{}, gone: map[string]bool{}, left: map[string]bool{}}
}

func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{texts: maps.Clone(l.texts), maybe: maps.Clone(l.maybe), gone: maps.Clone(l.gone), left: maps.Clone(l.left)}
}

// put puts one message and enters what was answered.
func (l *ledger) put(ctx context.Context, q queue.Queue, size int) error {
	letter := NewLetter(noon, "<a@ours.example>", "<b@far.example>", "<sales@ours.example>")
	text := Text(uint64(size), size)
	_, err := q.Put(ctx, letter, bytes.NewReader(text))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.texts[letter.ID] = text
	} else {
		l.gone[letter.ID] = true
	}
	return err
}

// deliver leases one message's part and settles it.
func (l *ledger) deliver(ctx context.Context, q queue.Queue) error {
	list, err := q.Lease(ctx, queue.Ask{Owner: "l", Now: noon, Until: noon.Add(time.Minute), Max: 1})
	if err != nil || len(list) == 0 {
		return err
	}
	id := list[0].Message.ID
	l.mu.Lock()
	l.maybe[id] = true
	l.mu.Unlock()
	left, err := q.Settle(ctx, list[0], all(list[0], queue.Outcome{State: queue.Delivered, At: noon})...)
	if err == nil && left == 0 {
		l.mu.Lock()
		delete(l.texts, id)
		l.gone[id], l.left[id] = true, true
		l.mu.Unlock()
	}
	return err
}

// audit compares a queue with what clients were told.
func (l *ledger) audit(ctx context.Context, q Queue) error {
	if err := q.Whole(ctx); err != nil {
		return err
	}
	list, _, err := q.List(ctx, queue.Filter{}, queue.Page{Max: 1 << 20})
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, m := range list {
		there[m.ID] = true
		if l.gone[m.ID] {
			return fmt.Errorf("%s was refused or settled, and is there", m.ID)
		}
		text, err := body(ctx, q, m.ID)
		if err != nil {
			return fmt.Errorf("%s: %w", m.ID, err)
		}
		if want, ok := l.texts[m.ID]; ok && !bytes.Equal(text, want) {
			return fmt.Errorf("%s came back with another body", m.ID)
		}
	}
	for id := range l.texts {
		if !there[id] && !l.maybe[id] {
			return fmt.Errorf("%s was accepted, and is lost", id)
		}
		if err := remembered(ctx, q, id, there[id]); err != nil {
			return err
		}
	}
	for id := range l.gone {
		err := remembered(ctx, q, id, false)
		if l.left[id] && err != nil {
			return err
		}
		if !l.left[id] && !errors.Is(err, queue.ErrNoSuchID) {
			return fmt.Errorf("%s was refused, and its life is known: %w", id, err)
		}
	}
	return nil
}

// remembered asks that of a message that is there, or has left, the history
// says the same: each attempt of a delivery that is not as it came.
func remembered(ctx context.Context, q Queue, id string, there bool) error {
	l, err := q.Life(ctx, id)
	if err != nil {
		return fmt.Errorf("the life of %s: %w", id, err)
	}
	if l.Message.ID != id || l.Done.IsZero() != there {
		return fmt.Errorf("the life of %s, in the queue %v: %s, done %v", id, there, l.Message.ID, l.Done)
	}
	tried := map[queue.Which]int{}
	for _, e := range l.Events {
		tried[e.Which]++
	}
	for i := range l.Message.To {
		for j, d := range l.Message.To[i].Goes {
			if n := tried[queue.Which{Recipient: i, Index: j}]; n != d.Attempts || !there && !d.State.Settled() {
				return fmt.Errorf("the life of %s: delivery %d.%d is %v after %d attempts, and %d are known", id, i, j, d.State, d.Attempts, n)
			}
		}
	}
	return nil
}

// sizes are those that the fault tests put: no body, small, in two batches, in
// several.
var sizes = []int{0, 1000, 5000, 10, 3000, 140 << 10, 700}

func (e Engine) testNoRoom(t *testing.T) {
	var free uint64
	var mu sync.Mutex
	const total = 100 << 30
	const spare = 256 << 20 // more than an engine may hold without need, which counts as free
	r := e.room(t, Options{MaxSize: 400 << 20, Usage: func() (uint64, uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		return free, total, nil
	}})
	for _, c := range []struct {
		name string
		free uint64
		size int64
		want error
	}{
		{"plenty", total, 0, nil},
		{"a tenth is kept", total/10 - spare, 0, queue.ErrFull},
		{"just above it", total/10 + 10<<20, 10 << 20, nil},
		{"but not for more", total/10 + 10<<20, 400 << 20, queue.ErrFull},
		{"larger than ever", total, 400<<20 + 1, queue.ErrTooLarge},
	} {
		mu.Lock()
		free = c.free
		mu.Unlock()
		if err := r.Room(c.size); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		l := NewLetter(noon, "<a@ours.example>", "<b@far.example>")
		l.Params.Size = c.size
		if _, err := r.Put(t.Context(), l, strings.NewReader("text")); !errors.Is(err, c.want) {
			t.Errorf("%s: Put: got %v, want %v", c.name, err, c.want)
		}
	}
	// Strangers leave half as much again.
	for _, c := range []struct {
		name       string
		free       uint64
		to         string
		spare, put error
	}{
		{"a user with little room", total/20*3 - spare, "<b@far.example>", queue.ErrFull, nil},
		{"a stranger with little room", total/20*3 - spare, "<anna@ours.example>", queue.ErrFull, queue.ErrFull},
		{"a stranger with more", total / 20 * 3, "<anna@ours.example>", nil, nil},
	} {
		mu.Lock()
		free = c.free
		mu.Unlock()
		if err := r.Spare(0); !errors.Is(err, c.spare) {
			t.Errorf("%s: Spare: got %v, want %v", c.name, err, c.spare)
		}
		if _, err := r.Put(t.Context(), NewLetter(noon, "<a@ours.example>", c.to), strings.NewReader("text")); !errors.Is(err, c.put) {
			t.Errorf("%s: Put: got %v, want %v", c.name, err, c.put)
		}
	}
	// It becomes full while a message comes in.
	l := NewLetter(noon, "<a@ours.example>", "<b@far.example>")
	mu.Lock()
	free = total
	mu.Unlock()
	_, err := r.Put(t.Context(), l, readerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		free -= min(free, total/20)
		return len(p), nil
	}))
	if !errors.Is(err, queue.ErrFull) {
		t.Errorf("full in the middle: %v", err)
	}
	r.gone(l.ID)
	if err := r.Whole(t.Context()); err != nil {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// testFullDisk writes until the disk is full, at different moments; then room
// is made, and the queue works again with all that it accepted.
func (e Engine) testFullDisk(t *testing.T) {
	for after := 1; after <= 201; after += 10 {
		e.survives(t, fmt.Sprintf("write %d", after), fault.Plan{What: fault.Writes, After: after, Err: fault.ErrNoSpace})
	}
}

// testFailingDisk fails every operation once: for one moment, and for a while.
func (e Engine) testFailingDisk(t *testing.T) {
	for n := range 40 {
		e.survives(t, fmt.Sprintf("sync %d", n), fault.Plan{What: fault.Syncs, After: n, Times: 1, Err: fault.ErrIO})
		e.survives(t, fmt.Sprintf("change %d", n), fault.Plan{What: fault.Changes, After: 2 * n, Times: 1, Err: fault.ErrIO})
		if n%8 == 0 {
			e.survives(t, fmt.Sprintf("all from change %d", n), fault.Plan{What: fault.Changes, After: 2 * n, Err: fault.ErrIO})
		}
	}
}

// survives runs a queue over a disk that fails as planned, mends the disk, and
// asks that the queue recovers with all that it accepted and nothing else; and
// that the disk alone, found by another process, holds the same.
func (e Engine) survives(t *testing.T, name string, plan fault.Plan) {
	t.Helper()
	disk, said := fault.NewDisk(), &reports{}
	q, err := e.Open(disk, "/queue", Options{Report: said.add})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := q.Run(ctx); err != nil {
			t.Errorf("%s: Run: %v", name, err)
		}
	})
	book := newLedger()
	disk.Fail(plan)
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			for i := range 12 {
				if err := book.put(ctx, q, sizes[(c+i)%len(sizes)]); err != nil && !errors.Is(err, queue.ErrBroken) {
					t.Errorf("%s: Put: %v", name, err)
				}
				if c == 0 && i%3 == 0 {
					if err := book.deliver(ctx, q); err != nil && !errors.Is(err, queue.ErrBroken) {
						t.Errorf("%s: deliver: %v", name, err)
					}
				}
			}
		})
	}
	clients.Wait()
	_, failed := disk.Seen()
	disk.Fail(fault.Plan{})
	if err := recovered(ctx, q); err != nil {
		t.Fatalf("%s: it does not recover: %v; %v", name, err, said.list)
	}
	if err := book.put(ctx, q, 5000); err != nil {
		t.Errorf("%s: Put after recovery: %v", name, err)
	}
	if err := book.audit(ctx, q); err != nil {
		t.Errorf("%s (%d failed): %v", name, failed, err)
	}
	left := disk.PowerLoss(0, nil)
	cancel()
	running.Wait()
	_ = q.Close()
	other, err := e.Open(left, "/queue", Options{Report: faults(t, name+": after power loss: ")})
	if err != nil {
		t.Fatalf("%s: another process: %v", name, err)
	}
	defer other.Close()
	if err := book.audit(t.Context(), other); err != nil {
		t.Errorf("%s (%d failed): another process: %v", name, failed, err)
	}
}

// recovered waits until the queue takes mail again.
func recovered(ctx context.Context, q Queue) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := q.Room(0)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-q.Changed():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// testPowerLoss takes the power from a busy queue again and again. What is
// found then is what was synced and, of the rest, nothing, all, or any part.
func (e Engine) testPowerLoss(t *testing.T) {
	for round := range uint64(30) {
		chance := rand.New(rand.NewPCG(1, round))
		disk := fault.NewDisk()
		q, err := e.Open(disk, "/queue", Options{Report: faults(t, "")})
		if err != nil {
			t.Fatal(err)
		}
		book := newLedger()
		cuts := make(chan int)
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for c := range 6 {
			clients.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					var err error
					if c == 0 {
						err = book.deliver(t.Context(), q)
					} else {
						err = book.put(t.Context(), q, sizes[(c+i)%len(sizes)])
					}
					if err != nil {
						t.Error(err)
						return
					}
					select {
					case cuts <- i:
					case <-ctx.Done():
					}
				}
			})
		}
		for range 10 {
			for range 1 + chance.IntN(20) {
				<-cuts
			}
			sure := book.copy() // what was answered before the power goes
			percent := []int{0, 100, 10 + chance.IntN(80)}[chance.IntN(3)]
			left := disk.PowerLoss(percent, chance)
			busy := book.copy() // and what began to be settled by then
			sure.maybe = busy.maybe
			e.afterPowerLoss(t, left, sure, fmt.Sprintf("round %d, %d %%", round, percent))
		}
		cancel()
		clients.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (e Engine) afterPowerLoss(t *testing.T, disk *fault.Disk, book *ledger, name string) {
	t.Helper()
	q, err := e.Open(disk, "/queue", Options{Report: faults(t, name+": ")})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer q.Close()
	if err := book.audit(t.Context(), q); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if err := book.put(t.Context(), q, 5000); err != nil {
		t.Errorf("%s: Put: %v", name, err)
	}
}

// testClock lets the clock jump by a day, to and fro. Nothing is lost, and all
// that waits is due at last.
func (e Engine) testClock(t *testing.T) {
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		r := e.room(t, Options{})
		var want []string
		for i := range 6 {
			l := NewLetter(noon.Add(jump*time.Duration(i%2)), "<a@ours.example>", "<b@far.example>")
			want = append(want, r.letter(l, nil))
		}
		wrong := noon.Add(jump)
		list := r.lease(queue.Ask{Now: wrong, Max: 4})
		if len(list) != 4 {
			t.Fatalf("clock %v wrong: %d leases, want 4: a message is due whenever it came", jump, len(list))
		}
		r.settle(list[0], 1, all(list[0], queue.Outcome{State: queue.Waiting, At: wrong, Next: wrong.Add(5 * time.Minute)})...)
		// The clock is set right; the owner of the other three is dead.
		got := map[string]bool{}
		for now := noon; now.Before(noon.Add(26 * time.Hour)); now = now.Add(time.Hour) {
			for _, l := range r.lease(queue.Ask{Now: now}) {
				got[l.Message.ID] = true
				r.settle(l, 0, all(l, queue.Outcome{State: queue.Delivered, At: now})...)
			}
		}
		if found := slices.Sorted(maps.Keys(got)); !slices.Equal(found, want) {
			t.Errorf("clock %v wrong: delivered %v, want %v", jump, found, want)
		}
	}
}

// testShift sets the clock while mail waits. Each message waits as long as it
// would have, is as old as it was, and what is leased stays leased.
func (e Engine) testShift(t *testing.T) {
	const wait, longest, age = 5 * time.Minute, 4 * time.Hour, 2 * time.Hour
	for _, by := range []time.Duration{48 * time.Hour, -time.Hour, -48 * time.Hour, 56 * 365 * 24 * time.Hour} {
		r := e.room(t, Options{})
		waits := r.letter(NewLetter(noon.Add(-age), "<a@ours.example>", "<b@far.example>"), nil)
		l := r.lease(queue.Ask{})[0]
		r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon, Next: noon.Add(wait)})...)
		r.put(nil, "<c@near.example>")
		out := r.lease(queue.Ask{Only: []string{"near.example"}, Until: noon.Add(time.Hour)})[0]
		expires := noon.Add(24 * time.Hour)
		if _, err := r.Change(t.Context(), queue.Change{Expires: &expires}, waits); err != nil {
			t.Fatal(err)
		}
		now := noon.Add(by)
		if n, err := r.Shift(t.Context(), now, by, longest); n != 2 || err != nil {
			t.Fatalf("by %v: %d messages, %v; want 2", by, n, err)
		}
		m := r.show(waits)
		if d := m.To[0].Goes[0]; !m.Origin.At.Equal(now.Add(-age)) || !d.Next.Equal(now.Add(wait)) || !d.At.Equal(now) || !m.Expires.Equal(now.Add(24*time.Hour)) {
			t.Errorf("by %v: accepted %v, tried %v, next %v, expires %v", by, m.Origin.At.Sub(now), d.At.Sub(now), d.Next.Sub(now), m.Expires.Sub(now))
		}
		for _, c := range []struct {
			ahead time.Duration
			want  int
		}{{wait - time.Second, 0}, {wait, 1}} {
			list := r.lease(queue.Ask{Now: now.Add(c.ahead)})
			if len(list) != c.want {
				t.Errorf("by %v: %d leases after %v, want %d", by, len(list), c.ahead, c.want)
			}
			for _, l := range list {
				_ = r.Return(t.Context(), l)
			}
		}
		r.settle(out, 0, all(out, queue.Outcome{State: queue.Delivered, At: now})...)
		r.told(waits, "0.0 waiting, retried")
	}
}

// testShiftUnseen finds, when it is opened, what a clock wrote that was wrong.
func (e Engine) testShiftUnseen(t *testing.T) {
	const longest = 4 * time.Hour
	for _, c := range []struct {
		name               string
		accepted, at, next time.Duration // from now
		changed, due       int
	}{
		{"right", -time.Hour, -time.Minute, 3 * time.Hour, 0, 0},
		{"it waits for longer than anything does", -time.Hour, -time.Minute, 5 * time.Hour, 1, 1},
		{"tried tomorrow", -time.Hour, 24 * time.Hour, 24*time.Hour + time.Minute, 1, 1},
		{"tried in half an hour", -time.Hour, time.Hour / 2, time.Hour, 1, 1},
		{"accepted tomorrow", 24 * time.Hour, 24 * time.Hour, 25 * time.Hour, 1, 1},
	} {
		r := e.room(t, Options{})
		id := r.letter(NewLetter(noon.Add(c.accepted), "<a@ours.example>", "<b@far.example>"), nil)
		l := r.lease(queue.Ask{})[0]
		r.settle(l, 1, all(l, queue.Outcome{State: queue.Waiting, At: noon.Add(c.at), Next: noon.Add(c.next)})...)
		r.reopen()
		if n, err := r.Shift(t.Context(), noon, 0, longest); n != c.changed || err != nil {
			t.Errorf("%s: %d messages changed, %v; want %d", c.name, n, err, c.changed)
		}
		if list := r.lease(queue.Ask{}); len(list) != c.due {
			t.Errorf("%s: %d due, want %d", c.name, len(list), c.due)
		}
		if m := r.show(id); m.Origin.At.After(noon) || m.To[0].Goes[0].At.After(noon) {
			t.Errorf("%s: accepted %v, tried %v after now", c.name, m.Origin.At.Sub(noon), m.To[0].Goes[0].At.Sub(noon))
		}
	}
}

// testRestart stops in the middle of deliveries. What was leased is given out
// again when its lease would have ended, at the latest.
func (e Engine) testRestart(t *testing.T) {
	r := e.room(t, Options{})
	id := r.put(Text(3, 9000), "<b@far.example>", "<c@near.example>")
	old := r.lease(queue.Ask{Owner: "dead", Until: noon.Add(time.Minute)})
	if len(old) != 2 {
		t.Fatal(len(old))
	}
	r.settle(old[0], 1, all(old[0], queue.Outcome{State: queue.Delivered, At: noon})...)
	r.reopen()
	list := r.lease(queue.Ask{Owner: "new", Now: noon.Add(time.Minute), Until: noon.Add(2 * time.Minute)})
	if len(list) != 1 || list[0].Message.ID != id || list[0].Destination != old[1].Destination {
		t.Fatalf("after the restart: %v, want %s", destinations(list), old[1].Destination)
	}
	r.settle(list[0], 0, all(list[0], queue.Outcome{State: queue.Delivered, At: noon})...)
	if _, err := r.Settle(t.Context(), old[1], all(old[1], queue.Outcome{State: queue.Delivered})...); !errors.Is(err, queue.ErrNoSuchID) && !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("a lease from before the restart was settled: %v", err)
	}
}
