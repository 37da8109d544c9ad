package queue_test

import (
	"testing"
	"time"

	"postern/internal/queue"
	"postern/internal/queue/queuetest"
	"postern/mail"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func message(t *testing.T, from string, to ...string) queue.Message {
	t.Helper()
	m, err := queue.New(queuetest.NewLetter(noon, from, to...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNew(t *testing.T) {
	m := message(t, "<>", "<sales@ours.example>", "<anna@OURS.example>")
	if m.Lane != queue.Bulk || m.Left() != 4 || m.Rest() != queue.Fresh {
		t.Errorf("a notice: %v, %d left, %v", m.Lane, m.Left(), m.Rest())
	}
	if m.To[0].Goes[1].Destination() != "near.example" || m.To[1].Goes[0].Destination() != "ours.example" {
		t.Errorf("destinations %q, %q", m.To[0].Goes[1].Destination(), m.To[1].Goes[0].Destination())
	}
	if m := message(t, "<a@ours.example>", "<b@far.example>"); m.Lane != queue.Normal {
		t.Errorf("what somebody wrote goes by lane %v", m.Lane)
	}
}

func TestRest(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(m *queue.Message)
		want   queue.State
	}{
		{"new", func(*queue.Message) {}, queue.Fresh},
		{"held", func(m *queue.Message) { m.Hold = "why" }, queue.Held},
		{"tried", func(m *queue.Message) { m.To[0].Goes[0].Attempts = 1 }, queue.Deferred},
		{"put off without an attempt", func(m *queue.Message) { m.To[0].Goes[0].Next = noon }, queue.Deferred},
		{"one withheld", func(m *queue.Message) { m.To[0].Goes[0].State = queue.Withheld }, queue.Fresh},
		{"one delivered", func(m *queue.Message) { m.To[0].Goes[0].State, m.To[0].Goes[0].Attempts = queue.Delivered, 1 }, queue.Deferred},
		{"the other withheld", func(m *queue.Message) {
			m.To[0].Goes[0].State, m.To[1].Goes[0].State = queue.Delivered, queue.Withheld
		}, queue.Held},
	} {
		m := message(t, "<a@ours.example>", "<b@far.example>", "<c@far.example>")
		if c.change(&m); m.Rest() != c.want {
			t.Errorf("%s: %v, want %v", c.name, m.Rest(), c.want)
		}
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  queue.Outcome
	}{
		{"no such recipient", queue.Outcome{Which: queue.Which{Recipient: 2}}},
		{"no such delivery", queue.Outcome{Which: queue.Which{Recipient: 1, Index: 1}}},
		{"before the first", queue.Outcome{Which: queue.Which{Recipient: -1}}},
		{"settled before", queue.Outcome{Which: queue.Which{Recipient: 1}}},
		{"no such state", queue.Outcome{State: 9}},
	} {
		m := message(t, "<a@ours.example>", "<b@far.example>", "<c@far.example>")
		m.To[1].Goes[0].State = queue.Delivered
		good := queue.Outcome{State: queue.Failed, At: noon, Reply: mail.NewReply(550, "5.1.1", "no")}
		if err := m.Apply([]queue.Outcome{good, c.bad}); err == nil || m.To[0].Goes[0].Attempts != 0 {
			t.Errorf("%s: %v, and the good one has %d attempts", c.name, err, m.To[0].Goes[0].Attempts)
		}
	}
}

func TestStatesReadAsWritten(t *testing.T) {
	for _, s := range queue.States() {
		if got, ok := queue.ParseState(s.String()); !ok || got != s {
			t.Errorf("ParseState(%q) = %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "Held", "gone"} {
		if got, ok := queue.ParseState(s); ok {
			t.Errorf("ParseState(%q) = %v", s, got)
		}
	}
}
