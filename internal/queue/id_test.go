package queue_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"postern/internal/queue"
)

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9A-Z]{16}$`)
	at := time.Date(2026, 11, 24, 12, 0, 0, 123e6, time.UTC)
	seen := map[string]bool{}
	for range 1000 {
		id := queue.NewIDAt(at)
		if got, err := queue.ParseID(id); err != nil || got != id || !form.MatchString(id) || seen[id] {
			t.Fatalf("%q, %v, seen %v", id, err, seen[id])
		}
		seen[id] = true
		if got := queue.TimeOf(id); !got.Equal(at) {
			t.Fatalf("TimeOf(%s) = %v, want %v", id, got, at)
		}
		if later := queue.NewIDAt(at.Add(time.Millisecond)); later <= id {
			t.Fatalf("%s, a millisecond later, sorts before %s", later, id)
		}
	}
	if d := time.Since(queue.TimeOf(queue.NewID())); d < 0 || d > time.Hour {
		t.Errorf("a new id is %v old", d)
	}
}

func TestFirstID(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 123e6, time.UTC)
	first := queue.FirstID(at)
	for range 100 {
		if id := queue.NewIDAt(at); id < first {
			t.Errorf("%s is of the moment whose first is %s", id, first)
		}
		if id := queue.NewIDAt(at.Add(-time.Millisecond)); id >= first {
			t.Errorf("%s is earlier than %s", id, first)
		}
	}
	for _, c := range []struct{ at, want time.Time }{
		{at, at}, {time.Time{}, time.UnixMilli(0)}, {time.UnixMilli(1 << 50), time.UnixMilli(1<<48 - 1)},
	} {
		if got := queue.TimeOf(queue.FirstID(c.at)); !got.Equal(c.want) {
			t.Errorf("the first id of %v is of %v, want %v", c.at, got, c.want)
		}
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", "0", "06H106FFRZWMQPT", "06H106FFRZWMQPT77", "06h106ffrzwmqpt7", "06H106FFRZWMQPTI", "06H106FFRZWMQPTL",
		"06H106FFRZWMQPTO", "06H106FFRZWMQPTU", "../../../etc/pas", "06H106FFRZ\x00MQPT7", "06H106FFRZWMQPT\n", "ÄÄÄÄÄÄÄÄ",
	} {
		if got, err := queue.ParseID(s); !errors.Is(err, queue.ErrID) || got != "" {
			t.Errorf("ParseID(%q) = %q, %v", s, got, err)
		}
		if at := queue.TimeOf(s); !at.IsZero() {
			t.Errorf("TimeOf(%q) = %v", s, at)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(queue.NewID())
	f.Add("06H106FFRZWMQPTU")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := queue.ParseID(s)
		if err != nil {
			return
		}
		// What is taken is one name and no other: made anew of its own time it
		// differs in its chance only.
		if again := queue.NewIDAt(queue.TimeOf(id)); id != s || again[:9] != id[:9] {
			t.Errorf("%q was read as %q of %v, which makes %q", s, id, queue.TimeOf(id), again)
		}
	})
}
