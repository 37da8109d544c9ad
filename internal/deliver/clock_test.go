package deliver

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
)

func TestClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set time.Duration // by how much somebody set the clock until now
		start := time.Now()
		c := newClock(func() time.Duration { return time.Since(start) - set })
		for _, s := range []struct {
			name string
			wait time.Duration
			set  time.Duration
			want time.Duration
		}{
			{"at once", 0, 0, 0},
			{"time passes", 30 * time.Hour, 0, 0},
			{"a little ahead", time.Second, 59 * time.Second, 0},
			{"a little ahead again", time.Second, 59 * time.Second, 0},
			{"ahead", time.Minute, 48 * time.Hour, 48 * time.Hour},
			{"said once", time.Minute, 0, 0},
			{"back", time.Hour, -time.Hour, -time.Hour},
			{"from 1970", time.Minute, 56 * 365 * 24 * time.Hour, 56 * 365 * 24 * time.Hour},
		} {
			time.Sleep(s.wait)
			set += s.set
			if got := c.step(); got != s.want {
				t.Errorf("%s: %v, want %v", s.name, got, s.want)
			}
		}
	})
}

// A clock that is set back delays nothing by as much: what waits goes on waiting
// as long as it would have.
func TestClockSetBack(t *testing.T) {
	start := time.Now()
	var set atomic.Int64
	bubble(t, func(o *Options) {
		start = time.Now()
		o.Running = func() time.Duration { return time.Since(start) - time.Duration(set.Load()) }
	}, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{rcpt: func(string) mail.Reply {
			if time.Since(start) < 150*time.Second {
				return mail.NewReply(451, "4.7.1", "greylisted")
			}
			return mail.Reply{}
		}}, "198.51.100.1:25")
		w.send("<anna@ours.example>", "<b@far.example>")
		after(3 * time.Minute) // its third attempt is four to six minutes after its second
		// In a bubble the clock cannot be set; that the machine has run for four
		// minutes more than it shows is the same.
		set.Store(int64(-4 * time.Minute))
		after(90 * time.Second)
		if got := n.messages(); len(got) != 1 {
			t.Errorf("by then it would have been tried: %v, left %v", got, w.left())
		}
	})
}
