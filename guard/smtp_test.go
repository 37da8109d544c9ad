package guard

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/policy"
	"postern/smtp"
)

func TestRolesAndCommands(t *testing.T) {
	for _, c := range []struct {
		name   string
		role   policy.Role
		client string
		lines  []string
		want   string // how the last reply begins
	}{
		{"a stranger to us", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>"}, "250 2.1.5"},
		{"a stranger to others", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<a@far.example>", "RCPT TO:<b@elsewhere.example>"}, "550 5.7.1 We do not relay for 198.51.100.7. Send through your own provider, or log in on port 587 (STARTTLS) [ID1]"},
		{"a stranger in our name to others", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<anna@example.org>", "RCPT TO:<b@elsewhere.example>"}, "550 5.7.1 We do not relay"},
		{"a percent hack", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<b%far.example@example.org>"}, "501 5.1.3 Address form not accepted"},
		{"a source route", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<@example.org:b@far.example>"}, "501 5.1.3 Address form not accepted"},
		{"an unknown mailbox", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<nobody@example.org>"}, "550 5.1.1 No such mailbox here"},
		{"a mailbox that the next hop knows", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<known@asked.example.org>"}, "250 2.1.5"},
		{"one that it does not know", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<unknown@asked.example.org>"}, "550 5.1.1"},
		{"the bare postmaster", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<Postmaster>"}, "250 2.1.5"},
		{"a trusted client elsewhere", policy.MX, "10.1.2.40", []string{"EHLO c", "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>"}, "550 5.7.1 We do not relay for 10.1.2.40"},
		{"login on port 25", policy.MX, stranger, []string{"EHLO c", plain}, "502 5.5.1 No login on this port; use port 587 (STARTTLS)"},
		{"XCLIENT", policy.MX, stranger, []string{"EHLO c", "XCLIENT ADDR=127.0.0.1"}, "502 5.5.1"},

		{"mail without TLS", policy.Submission, stranger, []string{"EHLO c", "MAIL FROM:<anna@example.org>"}, "530 5.7.0 Turn on TLS"},
		{"login without TLS", policy.Submission, stranger, []string{"EHLO c", plain}, "538 5.7.11 This login needs an encrypted connection"},
		{"mail without login", policy.Submission, stranger, []string{"EHLO c", "STARTTLS", "EHLO c", "MAIL FROM:<anna@example.org>"}, "530 5.7.0 Log in first"},
		{"a wrong password", policy.Submission, stranger, []string{"EHLO c", "STARTTLS", "EHLO c", "AUTH PLAIN AGFubmEAd3Jvbmc="}, "535 5.7.8"},
		{"anna to the world", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<b@far.example>"), "250 2.1.5"},
		{"anna by her other name", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<Sales@example.org>"), "250 2.1.0"},
		{"anna as somebody else", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<ben@example.org>"), `553 5.7.1 anna may not send as "<ben@example.org>"`},
		{"anna as nobody", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<>"), "553 5.7.1"},
		{"anna to an address literal", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<b@[192.0.2.1]>"), "550 5.1.2"},
		{"anna after HELO, which forgets her", policy.Submission, stranger, append(login[:4:4], "HELO c.example", "MAIL FROM:<anna@example.org>"), "530 5.7.0 Log in first"},
		{"a user that the policy does not know", policy.Submission, stranger, []string{"EHLO c", "STARTTLS", "EHLO c", "AUTH PLAIN AGdob3N0AHBhc3M=", "MAIL FROM:<anna@example.org>"}, `550 5.7.1 User "ghost" may no longer send here`},

		{"the scanner", policy.Trusted, "10.1.2.40", []string{"EHLO c", "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>"}, "250 2.1.5"},
		{"the scanner, mapped", policy.Trusted, "::ffff:10.1.2.40", []string{"EHLO c", "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>"}, "250 2.1.5"},
		{"the scanner as anna", policy.Trusted, "10.1.2.40", []string{"EHLO c", "MAIL FROM:<anna@example.org>"}, "553 5.7.1 scanner may not send as"},
		{"its neighbour", policy.Trusted, "10.1.2.41", []string{"EHLO c", "MAIL FROM:<scanner@example.org>"}, "550 5.7.1 10.1.2.41 is not known here"},
		{"login where nobody logs in", policy.Trusted, "10.1.2.40", []string{"EHLO c", plain}, "502 5.5.1 No login on this port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(c.role)
			b.tls = certificate()
			replies := b.talk(t, c.client, c.lines...)
			if got := replies[len(replies)-1]; len(replies) != len(c.lines)+1 || !strings.HasPrefix(got, c.want) {
				t.Errorf("%q\ngot  %q\nwant %q", c.lines, replies, c.want)
			}
			if len(b.tray.letters) != 0 {
				t.Error("something was stored")
			}
		})
	}
}

// A message reaches the tray only through MAIL, a granted RCPT and DATA, in
// this order and in one transaction.
func TestOnlyAWholeTransactionIsStored(t *testing.T) {
	words := []string{"MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>", "RCPT TO:<b@far.example>", "RSET", "EHLO c", "DATA"}
	var try func(prefix []int, depth int)
	try = func(prefix []int, depth int) {
		if depth > 0 {
			for i := range words {
				try(append(prefix[:len(prefix):len(prefix)], i), depth-1)
			}
			return
		}
		lines, open, granted, stored := []string{"EHLO c"}, false, false, 0
		for _, w := range prefix {
			lines = append(lines, words[w])
			switch w {
			case 0:
				open = true
			case 1:
				granted = granted || open
			case 3, 4:
				open, granted = false, false
			case 5:
				if open && granted {
					lines = append(lines, "\\x\r\n.")
					stored++
					open, granted = false, false
				}
			}
		}
		b := newBench(policy.MX)
		for i, l := range lines {
			if l == "\\x\r\n." {
				lines[i] = "x\r\n."
			}
		}
		b.talk(t, stranger, lines...)
		if len(b.tray.letters) != stored {
			t.Fatalf("%q: %d stored, want %d", lines, len(b.tray.letters), stored)
		}
		for _, l := range b.tray.letters {
			if len(l.To) != 1 || l.To[0].Grant.To().String() != "<anna@example.org>" {
				t.Fatalf("%q: stored for %v", lines, l.To)
			}
		}
	}
	try(nil, 4)
}

func TestEarlyTalker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(policy.MX)
		b.Limits.Pause = 2 * time.Second
		began := time.Now()
		if got := b.talk(t, stranger)[0]; !strings.HasPrefix(got, "220") || time.Since(began) != 2*time.Second {
			t.Errorf("who waits: %q after %s", got, time.Since(began))
		}
		near, far := net.Pipe()
		go func() {
			server := &smtp.Server{Name: "mx.example.org", Handler: &b.SMTP}
			_ = server.ServeConn(context.Background(), from{far, netip.MustParseAddr(stranger)})
		}()
		go func() { _, _ = io.WriteString(near, "EHLO spam\r\n") }()
		line, _ := bufio.NewReader(near).ReadString('\n')
		if !strings.HasPrefix(line, "554 5.5.1 Talked before our greeting") {
			t.Errorf("who does not: %q", line)
		}
		near.Close()
	})
}

// Where the room gets scarce, strangers are sent away before our own people.
func TestStrangersRoom(t *testing.T) {
	for _, c := range []struct {
		name string
		role policy.Role
		addr string
		as   []string
		want string
	}{
		{"a stranger", policy.MX, stranger, nil, "452 4.3.1"},
		{"a stranger at the port of trusted clients", policy.Trusted, stranger, nil, "550"},
		{"a user", policy.Submission, stranger, login, "250"},
		{"a trusted client", policy.Trusted, "10.1.2.40", nil, "250"},
	} {
		b := newBench(c.role)
		b.tls = certificate()
		b.tray.spare = full{}
		from := "anna@example.org"
		if c.role == policy.Trusted {
			from = "scanner@example.org"
		}
		replies := b.talk(t, c.addr, append(append([]string{"EHLO c"}, c.as...), "MAIL FROM:<"+from+">", "RCPT TO:<anna@example.org>")...)
		got := replies[len(replies)-2]
		if !strings.HasPrefix(got, c.want) {
			got = replies[len(replies)-1]
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %s", c.name, replies, c.want)
		}
	}
}

func TestIDs(t *testing.T) {
	b := newBench(policy.MX)
	one := []string{"MAIL FROM:<>", "RCPT TO:<anna@example.org>", "DATA", "x\r\n."}
	b.talk(t, stranger, append(append([]string{"EHLO c"}, one...), one...)...)
	if len(b.tray.letters) != 2 || b.tray.letters[0].ID != "ID1" || b.tray.letters[1].ID != "ID2" || b.tray.letters[1].Origin.Session != "ID1" {
		t.Errorf("letters = %+v", b.tray.letters)
	}
}

// A right that is withdrawn while the message comes in: it is stored, since it
// was granted, and held.
func TestGrantLostOnTheWay(t *testing.T) {
	s := house.Source()
	s.Users = nil
	without, _ := policy.Compile(s)
	b := newBench(policy.Submission)
	now := house
	b.Policy = func() *policy.Policy { return now }
	b.Intake = slow{&b.tray, func() { now = without }}
	b.tls = certificate()
	lines := append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<b@far.example>", "DATA")
	now = house
	b.Watch = func(e Event) {}
	// Room is asked at MAIL, after the policy of the transaction was taken.
	replies := b.talk(t, stranger, append(lines, "x\r\n.")...)
	if got := replies[len(replies)-1]; !strings.Contains(got, "and held: its grant for <b@far.example> was withdrawn while it came in") {
		t.Errorf("got %q", got)
	}
	if len(b.tray.letters) != 1 || b.tray.letters[0].Hold == "" {
		t.Errorf("stored: %+v", b.tray.letters)
	}
}

// slow lets something happen before the message is stored.
type slow struct {
	*tray
	meanwhile func()
}

func (s slow) Room(int64) error { s.meanwhile(); return nil }
