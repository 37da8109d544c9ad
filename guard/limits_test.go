package guard

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
	"postern/policy"
)

type full struct{}

func (full) Error() string     { return "full" }
func (full) Reply() mail.Reply { return mail.NewReply(452, "4.3.1", "No room") }

func TestWhatCannotBeStored(t *testing.T) {
	b := newBench(policy.MX)
	b.tray.fail = full{}
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "452 4.3.1 No room [ID1]") {
		t.Errorf("full: %q", got)
	}
	b.tray.fail = errors.New("secret detail")
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "451 4.3.0") || strings.Contains(got, "secret") {
		t.Errorf("broken: %q", got)
	}
	b = newBench(policy.MX)
	b.Mailboxes = mailboxes{err: errors.New("away")}
	if got := b.talk(t, stranger, "EHLO c", "MAIL FROM:<>", "RCPT TO:<known@asked.example.org>"); !strings.HasPrefix(got[3], "451 4.4.3") {
		t.Errorf("a next hop that does not answer: %q", got)
	}
}

func TestLimits(t *testing.T) {
	b := newBench(policy.MX)
	b.Limits.Connections = Rate{3, time.Minute}
	for i := range 4 {
		got := b.talk(t, stranger)[0]
		if want := map[bool]string{true: "220", false: "421 4.7.0 Too many connections"}[i < 3]; !strings.HasPrefix(got, want) {
			t.Errorf("connection %d: %q", i, got)
		}
	}
	if got := b.talk(t, "198.51.100.8")[0]; !strings.HasPrefix(got, "220") {
		t.Errorf("its neighbour: %q", got)
	}
	b = newBench(policy.MX)
	lines := []string{"EHLO c", "MAIL FROM:<>"}
	for i := range 7 {
		lines = append(lines, fmt.Sprintf("RCPT TO:<u%d@example.org>", i))
	}
	if got := b.talk(t, stranger, lines...); len(got) != 9 || !strings.HasPrefix(got[8], "421 4.7.0 Too many mailboxes that do not exist") {
		t.Errorf("a dictionary: %q", got)
	}
}

func TestBudget(t *testing.T) {
	b := newBench(policy.Submission)
	b.Limits.PerUser = Rate{2, 24 * time.Hour}
	for i, want := range []string{"250 2.0.0 Stored as", "250 2.0.0 Stored as", "250 2.0.0 Stored as ID3 and held: anna has reached its limit of 2/d", "250 2.0.0 Stored as ID4 and held", "452 4.7.1 anna has reached twice its limit of 2/d"} {
		if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, want) {
			t.Errorf("message %d: %q, want %q", i+1, got, want)
		}
	}
	if n := len(b.tray.letters); n != 4 || b.tray.letters[1].Hold != "" || b.tray.letters[2].Hold == "" {
		t.Errorf("%d stored, holds %q, %q", n, b.tray.letters[1].Hold, b.tray.letters[2].Hold)
	}
	b = newBench(policy.Submission)
	b.Limits.PerUser = Rate{1, 24 * time.Hour}
	b.tray.fail = full{}
	b.deliver(t, stranger, "x")
	b.tray.fail = nil // what was not stored has cost nothing
	if got := b.deliver(t, stranger, "x"); strings.Contains(got, "held") {
		t.Errorf("after a failure: %q", got)
	}
	b = newBench(policy.Submission)
	b.Limits.PerUserBytes = Rate{100, 24 * time.Hour}
	b.deliver(t, stranger, strings.Repeat("x", 200))
	if got := b.deliver(t, stranger, "x"); !strings.Contains(got, "held") && !strings.HasPrefix(got, "452") {
		t.Errorf("after too many octets: %q", got)
	}
}

// Who watches over all that our people send may hold a message; strangers are
// not its affair. Its word goes before that of a limit, and a lost grant before
// both.
func TestHold(t *testing.T) {
	var asked []string
	watch := func(who string, l *policy.Letter) string {
		asked = append(asked, fmt.Sprintf("%s %d", who, len(l.To)))
		return "breakout: too many"
	}
	for _, c := range []struct {
		role  policy.Role
		peer  string
		asked string
		want  string
	}{
		{policy.Submission, stranger, "anna 1", "breakout: too many"},
		{policy.Trusted, "10.1.2.40", "scanner 1", "breakout: too many"},
		{policy.MX, stranger, "", ""},
	} {
		asked = nil
		b := newBench(c.role)
		b.Hold = watch
		b.Limits.PerUser = Rate{1, 24 * time.Hour}
		b.deliver(t, c.peer, "x")
		if got := strings.Join(asked, ","); got != c.asked || len(b.tray.letters) != 1 || b.tray.letters[0].Hold != c.want {
			t.Errorf("%v: asked %q, want %q; %+v", c.role, got, c.asked, b.tray.letters)
		}
	}
	b := newBench(policy.Submission)
	b.Hold = watch
	b.Limits.PerUser = Rate{1, 24 * time.Hour}
	b.deliver(t, stranger, "x")
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "250 2.0.0 Stored as ID2 and held: breakout: too many. ") {
		t.Errorf("over its limit as well: %q", got)
	}
}

// Fifty strangers behind one trusted address, as a proxy makes them look:
// trust is withdrawn before the third has got anywhere.
func TestLostClientAddresses(t *testing.T) {
	b := newBench(policy.Trusted)
	sent := 0
	for i := range 50 {
		got := b.talk(t, "10.1.2.40", fmt.Sprintf("EHLO s%d.example", i), "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>")
		if strings.HasPrefix(got[len(got)-1], "250") {
			sent++
		} else if !strings.HasPrefix(got[2], "451 4.7.1 This server cannot see your real address") {
			t.Fatalf("stranger %d: %q", i, got)
		}
	}
	if sent != 2 {
		t.Errorf("%d strangers were trusted, want 2", sent)
	}
	b.State.Witness.Restore()
	if got := b.talk(t, "10.1.2.40", "EHLO scanner.example", "MAIL FROM:<scanner@example.org>"); !strings.HasPrefix(got[2], "250") {
		t.Errorf("after the operator has looked: %q", got)
	}
}

// Who sends one message after the other lets others go first, and so does a
// message to many; a minute later all is as before.
func TestBulk(t *testing.T) {
	for _, c := range []struct {
		role          policy.Role
		client, other string
	}{
		{policy.MX, stranger, "198.51.100.8"},
		{policy.MX, "2001:db8::1", "2001:db8:0:1::1"},
		{policy.Submission, stranger, ""},
		{policy.Trusted, "10.1.2.40", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(c.role)
			last := func() bool { return b.tray.letters[len(b.tray.letters)-1].Bulk }
			for i := range 21 {
				b.deliver(t, c.client, "x")
				if got := last(); got != (i >= 20) {
					t.Errorf("%v: message %d in one second is one of many: %v", c.role, i+1, got)
				}
			}
			if c.other != "" {
				if b.deliver(t, c.other, "x"); last() {
					t.Errorf("%v: the message of another is one of many", c.role)
				}
			}
			time.Sleep(time.Minute)
			if b.deliver(t, c.client, "x"); last() {
				t.Errorf("%v: a minute later the next is still one of many", c.role)
			}
		})
	}
	for n, want := range map[int]bool{19: false, 20: true} {
		b := newBench(policy.Submission)
		b.tls = certificate()
		lines := append(login[:4:4], "MAIL FROM:<anna@example.org>")
		for i := range n {
			lines = append(lines, fmt.Sprintf("RCPT TO:<u%d@far.example>", i))
		}
		b.talk(t, stranger, append(lines, "DATA", "x\r\n.")...)
		if len(b.tray.letters) != 1 || b.tray.letters[0].Bulk != want || len(b.tray.letters[0].To) != n {
			t.Errorf("to %d: %+v", n, b.tray.letters)
		}
	}
}
