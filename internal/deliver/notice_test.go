package deliver

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/mail"
	"postern/policy"
)

// at gives anna a mailbox, and returns what arrives there.
func (w *world) home() *lmtp {
	w.ways.Ours["ours.example"] = Route{Name: "ours.example", Kind: ToHop, LMTP: true, Hosts: []Host{{"unix", "/run/lmtp", 0}}}
	return w.lmtp("/run/lmtp", map[string]string{"<anna@ours.example>": "250 2.1.5 stored", "<owner@ours.example>": "250 2.1.5 stored", "<ben@ours.example>": "550 5.2.1 closed"})
}

func TestNotices(t *testing.T) {
	later := mail.NewReply(451, "4.7.1", "greylisted, come back")
	no := mail.NewReply(550, "5.1.1", "no such user")
	for _, c := range []struct {
		name   string
		reply  mail.Reply // to RCPT at the far server
		notify mail.Notify
		dsn    bool // the far server tells by itself
		wait   time.Duration
		want   []string // of the one notice; none: there is none
		left   []string
	}{
		{"a refusal comes back", no, 0, false, time.Minute, []string{
			"Subject: Not delivered", "Auto-Submitted: auto-replied", "Action: failed", "Status: 5.1.1", "Final-Recipient: rfc822; b@far.example", "Diagnostic-Code: smtp; 550 5.1.1 no such user", "Message-ID: <1@ours.example>",
		}, nil},
		{"unless nobody wishes to know", no, mail.NotifyNever, false, time.Minute, nil, nil},
		{"or only of success", no, mail.NotifySuccess, false, time.Minute, nil, nil},
		{"a delay is told once", later, 0, false, 90 * time.Minute, []string{"Subject: Still trying", "Action: delayed", "Will-Retry-Until:"}, []string{"b@far.example waiting"}},
		{"not to who wants failures alone", later, mail.NotifyFailure, false, 90 * time.Minute, nil, []string{"b@far.example waiting"}},
		{"its end is told", later, mail.NotifyFailure, false, 4 * time.Hour, []string{"Action: failed", "Status: 4.4.7", "greylisted, come back"}, nil},
		{"success, when asked for", mail.Reply{}, mail.NotifySuccess, false, time.Minute, []string{"Subject: ", "Action: relayed", "Status: 2."}, nil},
		{"success, which the next server will tell", mail.Reply{}, mail.NotifySuccess, true, time.Minute, nil, nil},
		{"success, when not asked for", mail.Reply{}, 0, false, time.Minute, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(o *Options) { o.Lifetimes = Lifetimes{Message: 2 * time.Hour, Delay: 30 * time.Minute} }, func(w *world) {
				home := w.home()
				n := &node{rcpt: func(string) mail.Reply { return c.reply }}
				if !c.dsn {
					n.without = []string{"DSN"}
				}
				w.mx("far.example", "10 mx.far.example")
				w.host("mx.far.example", n, "198.51.100.1:25")
				id := w.sendWith(func(l *queue.Letter) { l.To[0].Params.Notify = c.notify }, "<anna@ours.example>", "<b@far.example>")
				after(c.wait)
				if len(home.bodies) != min(len(c.want), 1) {
					t.Fatalf("%d notices: %q", len(home.bodies), home.bodies)
				}
				for _, part := range c.want {
					if !strings.Contains(home.bodies[0], part) {
						t.Errorf("no %q in\n%s", part, home.bodies[0])
					}
				}
				if left := w.left(); len(left) != len(c.left) || len(left) > 0 && left[0] != c.left[0] {
					t.Errorf("left: %v", left)
				}
				if len(c.want) > 0 && len(c.left) == 0 {
					life, err := w.queue.Life(t.Context(), id)
					if err != nil || !strings.Contains(life.Events[len(life.Events)-1].Note, "to <anna@ours.example>") {
						t.Errorf("the history does not say who was told: %+v %v", life.Events, err)
					}
				}
			})
		})
	}
}

func TestNobodyIsWrittenToWhoIsNotProven(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		note           string
	}{
		{"a stranger, for a mailbox of ours", "<a@stranger.example>", "<ben@ours.example>", "who sent it is not proven"},
		{"a stranger who names one of ours", "<anna@ours.example>", "<ben@ours.example>", "who sent it is not proven"},
		{"a notice of somebody else's", "<>", "<ben@ours.example>", "its reverse-path is null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, nil, func(w *world) {
				home := w.home()
				n := w.host("stranger.example", &node{}, "198.51.100.1:25")
				id := w.send(c.from, c.to)
				after(3 * time.Hour)
				if got := n.messages(); len(got) != 0 {
					t.Errorf("the stranger got %v", got)
				}
				if len(home.got) != 0 {
					t.Errorf("told: %v", home.got)
				}
				m, err := w.queue.Show(t.Context(), id)
				if err != nil || m.To[0].Goes[0].State != queue.Withheld || !strings.Contains(m.To[0].Goes[0].Note, "failed: 550 5.2.1 closed; no notice: "+c.note) {
					t.Errorf("it does not stay for the operator: %+v %v", m.To, err)
				}
			})
		})
	}
}

func TestAliasFailureIsToldToItsOwner(t *testing.T) {
	bubble(t, nil, func(w *world) {
		home := w.home()
		w.mx("far.example", "10 mx.far.example")
		w.host("mx.far.example", &node{rcpt: func(to string) mail.Reply {
			if to == "<x@far.example>" {
				return mail.NewReply(550, "5.1.1", "no")
			}
			return mail.Reply{}
		}}, "198.51.100.1:25")
		w.send("<a@stranger.example>", "<both@ours.example>")
		after(time.Minute)
		if home.got["<owner@ours.example>"] != 1 || len(home.got) != 1 {
			t.Errorf("told: %v", home.got)
		}
	})
}

// Whom a stranger names is not told beside the alias's owner who is of the same
// name.
func TestAStrangerWhoNamesTheOwnerOfAnAlias(t *testing.T) {
	bubble(t, nil, func(w *world) {
		home := w.home()
		w.mx("far.example", "10 mx.far.example")
		w.host("mx.far.example", &node{rcpt: func(string) mail.Reply { return mail.NewReply(550, "5.1.1", "no") }}, "198.51.100.1:25")
		w.send("<owner@ours.example>", "<both@ours.example>", "<ben@ours.example>")
		after(time.Minute)
		if len(home.bodies) != 1 || strings.Contains(home.bodies[0], "ben@ours.example") {
			t.Errorf("told: %q", home.bodies)
		}
		if left := w.left(); !slices.Contains(left, "ben@ours.example withheld") {
			t.Errorf("left: %v", left)
		}
	})
}

// What a sender wishes of notices (NOTIFY=SUCCESS,FAILURE is 6) goes to whom they named, and not to whom an
// alias forwards to.
func TestWishesEndAtAnAlias(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"<anna@ours.example>", "<b@far.example>", "QQ314 HDRS 6 rfc822;a+2Bb"},
		{"<anna@ours.example>", "<both@ours.example>", "none"},
		{"<owner@ours.example>", "<both@ours.example>", "none"},
		{"<>", "<both@ours.example>", "none"},
		{"<owner@ours.example>", "<both@ours.example> <b@far.example>", "QQ314 HDRS 6 rfc822;a+2Bb; none"},
	} {
		bubble(t, nil, func(w *world) {
			w.mx("far.example", "10 mx.far.example")
			n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
			w.sendWith(func(l *queue.Letter) {
				l.Params = mail.SenderParams{EnvID: "QQ314", Ret: mail.RetHeaders}
				for i := range l.To {
					l.To[i].Params = mail.RecipientParams{Notify: mail.NotifySuccess | mail.NotifyFailure, ORcpt: "rfc822;a+2Bb"}
				}
			}, c.from, strings.Fields(c.to)...)
			after(time.Minute)
			slices.Sort(n.wishes)
			if got := strings.Join(slices.Compact(n.wishes), "; "); got != c.want {
				t.Errorf("%s to %s: the server heard %q, want %q", c.from, c.to, got, c.want)
			}
		})
	}
}

func TestOurOwnNoticeThatFailsEnds(t *testing.T) {
	bubble(t, nil, func(w *world) {
		home := w.home()
		home.says("<anna@ours.example>", "550 5.2.1 closed")
		w.send("<anna@ours.example>", "<b@nowhere.example>") // does not exist
		after(time.Minute)
		if left := w.left(); len(left) != 0 || len(home.bodies) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestNoticeThatCannotBeStoredIsNotLost(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	bubble(t, func(o *Options) { o.Queue = &stingy{Queue: o.Queue, full: &full} }, func(w *world) {
		home := w.home()
		w.send("<anna@ours.example>", "<b@nowhere.example>")
		after(time.Second)
		if left := w.left(); len(left) != 1 || left[0] != "b@nowhere.example waiting" {
			t.Fatalf("left: %v", left)
		}
		full.Store(false)
		after(10 * time.Minute)
		if left := w.left(); len(left) != 0 || len(home.bodies) != 1 {
			t.Errorf("left: %v, %d notices", left, len(home.bodies))
		}
	})
}

// A stingy queue has no room for notices.
type stingy struct {
	Queue
	full *atomic.Bool
}

func (s *stingy) Put(ctx context.Context, l policy.Letter, body io.Reader) (int64, error) {
	if s.full.Load() {
		return 0, queue.ErrFull
	}
	return s.Queue.Put(ctx, l, body)
}

// A flaky queue fails as it is told.
type flaky struct {
	Queue
	settle, put func() error
}

func (f *flaky) Settle(ctx context.Context, l queue.Lease, o ...queue.Outcome) (int, error) {
	if err := f.settle(); err != nil {
		return 0, err
	}
	return f.Queue.Settle(ctx, l, o...)
}

func (f *flaky) Put(ctx context.Context, l queue.Letter, body io.Reader) (int64, error) {
	if err := f.put(); err != nil {
		return 0, err
	}
	return f.Queue.Put(ctx, l, body)
}

// What a server has taken is not forgotten when the disk fails for longer than
// an attempt may take.
func TestWordOfAnAttemptOutlivesIt(t *testing.T) {
	start := time.Now()
	bubble(t, func(o *Options) {
		start = time.Now()
		o.Queue = &flaky{Queue: o.Queue, put: func() error { return nil }, settle: func() error {
			if time.Since(start) < 70*time.Minute {
				return queue.ErrBroken
			}
			return nil
		}}
	}, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
		w.send("<anna@ours.example>", "<b@far.example>")
		after(24 * time.Hour)
		if got := n.messages(); len(got) != 1 || len(w.left()) != 0 {
			t.Errorf("the server has %v, left %v", got, w.left())
		}
	})
}

// A notice that could not be stored is sent later, whatever it is about.
func TestNoticesThatCannotBeStored(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		reply  mail.Reply
		notify mail.Notify
		want   string
	}{
		{"of a delay, no room", queue.ErrFull, mail.NewReply(451, "4.7.1", "greylisted"), 0, "Action: delayed"},
		{"of a delay, broken", queue.ErrBroken, mail.NewReply(451, "4.7.1", "greylisted"), 0, "Action: delayed"},
		{"of a failure, no room", queue.ErrFull, mail.NewReply(550, "5.1.1", "no"), 0, "Action: failed"},
		{"of success, broken", queue.ErrBroken, mail.Reply{}, mail.NotifySuccess, "Action: relayed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var failed atomic.Int32
			bubble(t, func(o *Options) {
				o.Lifetimes = Lifetimes{Delay: 30 * time.Minute}
				o.Queue = &flaky{Queue: o.Queue, settle: func() error { return nil }, put: func() error {
					if failed.Add(1) == 1 {
						return c.err
					}
					return nil
				}}
			}, func(w *world) {
				home := w.home()
				w.mx("far.example", "10 mx.far.example")
				w.host("mx.far.example", &node{without: []string{"DSN"}, rcpt: func(string) mail.Reply { return c.reply }}, "198.51.100.1:25")
				w.sendWith(func(l *queue.Letter) { l.To[0].Params.Notify = c.notify }, "<anna@ours.example>", "<b@far.example>")
				after(4 * time.Hour)
				if len(home.bodies) != 1 || !strings.Contains(home.bodies[0], c.want) || failed.Load() != 2 {
					t.Errorf("%d notices after %d attempts to store one: %q", len(home.bodies), failed.Load(), home.bodies)
				}
			})
		})
	}
}

func TestOverdue(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		change func(m *queue.Message)
		want   bool
	}{
		{"a failure of which nobody is told", func(*queue.Message) {}, true},
		{"not for so long yet", func(m *queue.Message) { m.To[0].Goes[0].At = now }, false},
		{"the operator keeps it", func(m *queue.Message) { m.Hold = "held by the operator" }, false},
		{"its grant was lost", func(m *queue.Message) { m.To[0].Goes[0].Note = "its grant was withdrawn" }, false},
		{"held by its route", func(m *queue.Message) { m.To[0].Goes[0].Note = heldByRoute + "hold" }, false},
		{"another of it waits", func(m *queue.Message) { m.To = append(m.To, queue.Recipient{Goes: []queue.Delivery{{}}}) }, false},
		{"another of it arrived", func(m *queue.Message) {
			m.To = append(m.To, queue.Recipient{Goes: []queue.Delivery{{State: queue.Delivered}}})
		}, true},
	} {
		m := queue.Message{To: []queue.Recipient{{Goes: []queue.Delivery{{State: queue.Withheld, Note: failedUntold + "550 no; no notice: a stranger", At: now.Add(-2 * time.Hour)}}}}}
		if c.change(&m); Overdue(&m, now.Add(-time.Hour)) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
}
