package meter_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/meter"
)

// A history plays what one identity sends, as the relay does: a message is
// judged, and counted as held or not.
type history struct {
	m    *meter.Meter
	now  time.Time
	held int // of all that was sent
	last int // which message was the first to be held in the last sending; 0: none
}

func newHistory() *history { return &history{m: meter.New(), now: noon} }

// sends lets anna send n messages to so many each, evenly over a time.
func (h *history) sends(n, to int, within time.Duration) *history {
	h.last = 0
	for i := range n {
		at := h.now.Add(within * time.Duration(i) / time.Duration(n))
		why, _ := h.m.Judge(at, "anna", int64(to), meter.Floor)
		if why != "" {
			h.held++
			if h.last == 0 {
				h.last = i + 1
			}
		}
		h.m.Accepted(at, meter.Message{Who: "anna", To: slices.Repeat([]meter.Address{{Destination: "far.example"}}, to), Held: why != ""})
	}
	h.now = h.now.Add(within)
	return h
}

func (h *history) waits(d time.Duration) *history { h.now = h.now.Add(d); return h }

func TestBreakouts(t *testing.T) {
	const day = 24 * time.Hour
	person := func(h *history) *history { // who writes five mails a day
		for range 20 {
			h.sends(5, 1, 8*time.Hour).waits(16 * time.Hour)
		}
		return h
	}
	newsletter := func(h *history) *history { // that was released once, 3 weeks ago
		h.sends(5000, 1, time.Hour)
		h.m.Decide(h.now, "anna", true)
		h.held = 0
		return h.waits(7*day-time.Hour).sends(5000, 1, time.Hour).waits(7*day-time.Hour).sends(5000, 1, time.Hour)
	}
	for _, c := range []struct {
		name  string
		play  func(h *history)
		first int // of the last sending: the first that is held
	}{
		{"five mails a day", func(h *history) { person(h).sends(5, 1, time.Hour) }, 0},
		{"a stolen password", func(h *history) { person(h).sends(500, 1, 20*time.Minute) }, 51},
		{"a stolen password, many recipients each", func(h *history) { person(h).sends(500, 20, 20*time.Minute) }, 6},
		{"a stolen password of a new account", func(h *history) { h.sends(500, 1, 20*time.Minute) }, 51},
		{"an invitation to a hundred", func(h *history) { person(h).sends(1, 100, time.Minute) }, 0},
		{"fifty replies in an hour", func(h *history) { person(h).sends(50, 1, time.Hour) }, 0},
		{"the first newsletter", func(h *history) { person(h).sends(5000, 1, time.Hour) }, 51},
		{"a newsletter on Mondays", func(h *history) { newsletter(h).waits(7*day-time.Hour).sends(5000, 1, time.Hour) }, 0},
		{"half an hour later than usual", func(h *history) { newsletter(h).waits(7*day-time.Hour/2).sends(5000, 1, time.Hour) }, 0},
		{"five times the newsletter", func(h *history) { newsletter(h).waits(7*day-time.Hour).sends(25_000, 1, time.Hour) }, 10_001},
		{"once a month", func(h *history) { newsletter(h).waits(31*day).sends(5000, 1, time.Hour) }, 0},
		{"after two months it is new again", func(h *history) { newsletter(h).waits(62*day).sends(5000, 1, time.Hour) }, 51},
		{"who doubles each hour makes no habit of it", func(h *history) {
			person(h).sends(50, 1, time.Hour).sends(50, 1, time.Hour).sends(100, 1, time.Hour)
		}, 51},
		{"who sends on while held makes no habit of it", func(h *history) {
			person(h).sends(5000, 1, time.Hour).waits(3 * day)
			h.m.Silent(h.now)
			h.sends(500, 1, time.Hour)
		}, 101}, // twice the fifty that left
	} {
		h := newHistory()
		c.play(h)
		if h.last != c.first {
			t.Errorf("%s: the first that was held was message %d, want %d; %+v", c.name, h.last, c.first, h.m.Breakouts())
		}
	}
}

func TestDecide(t *testing.T) {
	h := newHistory().sends(80, 1, 10*time.Minute)
	list := h.m.Breakouts()
	if len(list) != 1 || list[0].Who != "anna" || h.held != 30 || list[0].Why != "breakout: 51 messages within the hour, and 0 in its busiest of 35 days" {
		t.Fatalf("%d held, %+v", h.held, list)
	}
	if _, ok := h.m.Decide(h.now, "ben", true); ok {
		t.Error("ben has not broken out")
	}
	t.Run("rejected", func(t *testing.T) {
		h := newHistory().sends(80, 1, 10*time.Minute)
		if _, ok := h.m.Decide(h.now, "anna", false); !ok || len(h.m.Breakouts()) != 0 {
			t.Fatal("it is still open")
		}
		// Who has the password now sends as anybody else does.
		if h.sends(50, 1, 10*time.Minute); h.last != 0 {
			t.Errorf("message %d was held", h.last)
		}
		if h.sends(1, 1, time.Minute); h.last != 1 {
			t.Error("51 messages more were not a breakout")
		}
	})
	t.Run("released", func(t *testing.T) {
		h := newHistory().sends(80, 1, 10*time.Minute)
		h.m.Decide(h.now, "anna", true)
		if h.waits(time.Hour).sends(160, 1, 10*time.Minute); h.last != 0 {
			t.Errorf("twice the new habit: message %d was held", h.last)
		}
		if h.sends(1, 1, time.Minute); h.last != 1 {
			t.Error("more than twice the new habit was not held")
		}
	})
	t.Run("silent", func(t *testing.T) {
		h := newHistory().sends(80, 1, 10*time.Minute)
		if ended := h.m.Silent(h.now.Add(23 * time.Hour)); len(ended) != 0 {
			t.Errorf("ended after 23 hours: %+v", ended)
		}
		if ended := h.m.Silent(h.now.Add(24 * time.Hour)); len(ended) != 1 || len(h.m.Breakouts()) != 0 {
			t.Errorf("after a day: %+v, open %+v", ended, h.m.Breakouts())
		}
	})
}

func TestBreakoutsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	h := &history{m: open(t, dir), now: noon}
	h.sends(60, 1, 10*time.Minute)
	if err := h.m.Save(dir); err != nil {
		t.Fatal(err)
	}
	h.m = open(t, dir)
	if h.sends(1, 1, time.Minute); h.last != 1 || !strings.HasPrefix(h.m.Breakouts()[0].Why, "breakout: ") {
		t.Errorf("after a restart it is over: %+v", h.m.Breakouts())
	}
	h.m.Decide(h.now, "anna", true)
	if err := h.m.Save(dir); err != nil {
		t.Fatal(err)
	}
	h.m = open(t, dir)
	if h.waits(26*time.Hour).sends(120, 1, 10*time.Minute); h.last != 0 {
		t.Errorf("what was released is no habit after a restart: message %d", h.last)
	}
}

// What was rejected in this hour is not held against its sender after a restart.
func TestRejectSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	h := &history{m: open(t, dir), now: noon}
	h.sends(500, 1, 10*time.Minute)
	h.m.Decide(h.now, "anna", false)
	if err := h.m.Save(dir); err != nil {
		t.Fatal(err)
	}
	h.m = open(t, dir)
	if h.sends(50, 1, 10*time.Minute); h.last != 0 {
		t.Errorf("message %d was held", h.last)
	}
	if h.sends(1, 1, time.Minute); h.last != 1 {
		t.Error("51 messages more were not a breakout")
	}
}
