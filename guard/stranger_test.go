package guard

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/policy"
)

// A stranger, and its network, have so much of a time and no more; our own
// people do not pay for it.
func TestStrangersAreSlowedDown(t *testing.T) {
	const house, neighbour, elsewhere = "198.51.100.7", "198.51.100.8", "203.0.113.7"
	for _, c := range []struct {
		name  string
		set   func(*Limits)
		lines []string // what a client says after its greeting
		times int
	}{
		{"messages", func(l *Limits) { l.Strangers = Rate{3, time.Hour} }, []string{"MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>", "DATA", "Subject: x\r\n\r\nx\r\n."}, 3},
		{"octets", func(l *Limits) { l.StrangerBytes = Rate{3000, time.Hour} }, []string{
			"MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>", "DATA", "Subject: x\r\n\r\n" + strings.Repeat("x", 900) + "\r\n.",
		}, 3},
		{"recipients", func(l *Limits) { l.StrangerRcpts = Rate{3, time.Hour} }, []string{"MAIL FROM:<>", "RCPT TO:<nobody@example.org>"}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(policy.MX)
				b.Limits.Strangers, b.Limits.StrangerBytes, b.Limits.StrangerRcpts = Rate{}, Rate{}, Rate{}
				c.set(&b.Limits)
				refused := func(peer string) bool {
					all := strings.Join(b.talk(t, peer, append([]string{"EHLO c"}, c.lines...)...), "\n")
					return strings.Contains(all, "\n451 4.7.1 Too much from your address for now; try again later [")
				}
				for i := range c.times {
					if refused(house) {
						t.Fatalf("the %d. was refused", i+1)
					}
				}
				if !refused(house) {
					t.Error("one more was not refused")
				}
				if refused(neighbour) || refused(elsewhere) {
					t.Error("another address pays for it")
				}
				for i := range 3 * c.times { // the rest of the network's four times
					refused(fmt.Sprintf("198.51.100.%d", 10+i))
				}
				if !refused("198.51.100.200") || refused(elsewhere) {
					t.Error("the network has no limit, or others pay for it")
				}
				time.Sleep(2 * time.Hour)
				if refused(house) {
					t.Error("two hours later it is refused")
				}
			})
		})
	}
	b := newBench(policy.Submission)
	b.Limits.Strangers = Rate{1, time.Hour}
	for range 3 {
		if got := b.deliver(t, house, "x"); !strings.HasPrefix(got, "250") {
			t.Errorf("our own people: %q", got)
		}
	}
}

// What strangers hold in memory is bounded, and the rest of it is for us.
func TestMemoryOfMessagesUnderWay(t *testing.T) {
	long := strings.Repeat("X-Long: "+strings.Repeat("y", 900)+"\r\n", 200)
	b := newBench(policy.MX)
	b.State.Flight.Most = 4 * flightBase
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "250") {
		t.Errorf("a message: %q", got)
	}
	got := b.talk(t, stranger, "EHLO c", "MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>", "DATA", "From: a@far.example\r\n"+long+"\r\nx\r\n.")
	if last := got[len(got)-1]; !strings.HasPrefix(last, "452 4.3.1 Short of memory just now; try again in a minute [") {
		t.Errorf("a header that there is no memory for: %q", last)
	}
	if left := b.State.Flight.taken.Load(); left != 0 {
		t.Errorf("%d octets are held by messages that ended", left)
	}
	if !b.State.Flight.take(3*flightBase, "192.0.2.0/24") || b.State.Flight.take(flightBase, "198.51.100.0/24") {
		t.Error("strangers have more or less than three quarters")
	}
	if !b.State.Flight.take(flightBase, "") || b.State.Flight.take(1, "") {
		t.Error("our own people do not have the rest")
	}
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "452 4.3.1") {
		t.Errorf("a message without memory: %q", got)
	}
}

// One network, such as the /48 of one customer, cannot hold what all strangers
// have.
func TestOneNetworkHoldsAPartOfTheMemory(t *testing.T) {
	f := &Flight{Most: 1 << 30}
	n := int64(0)
	for f.take(flightBase, "2001:db8::/48") {
		n += flightBase
	}
	if part := f.Most * strangersFlight / 100 * networkFlight / 100; n > part || n < part-flightBase {
		t.Errorf("one network holds %d octets, want about %d", n, part)
	}
	if !f.take(flightBase, "192.0.2.0/24") || !f.take(flightBase, "") {
		t.Error("others find no memory")
	}
	for ; n > 0; n -= flightBase {
		f.give(flightBase, "2001:db8::/48")
	}
	f.give(flightBase, "192.0.2.0/24")
	f.give(flightBase, "")
	if len(f.networks) != 0 || f.taken.Load() != 0 {
		t.Errorf("given back: %v, %d octets", f.networks, f.taken.Load())
	}
}

// What only began is not counted against an address or its neighbours.
func TestTransactionsWithoutAMessageCostNothing(t *testing.T) {
	b := newBench(policy.MX)
	b.Limits.Strangers = Rate{2, time.Hour}
	for range 3 {
		b.talk(t, "198.51.100.20", "EHLO c", "MAIL FROM:<a@far.example>", "RSET", "MAIL FROM:<a@far.example>", "RSET", "MAIL FROM:<a@far.example>")
	}
	for i, want := range []string{"250", "250", "451 4.7.1 Too much from your address"} {
		if got := b.deliver(t, "198.51.100.20", "x"); i < 2 && !strings.HasPrefix(got, want) {
			t.Errorf("message %d: %q, want %q", i+1, got, want)
		}
	}
	got := b.talk(t, "198.51.100.20", "EHLO c", "MAIL FROM:<a@far.example>")
	if last := got[len(got)-1]; !strings.HasPrefix(last, "451 4.7.1 Too much from your address") {
		t.Errorf("after its messages: %q", last)
	}
}

func TestFriends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(policy.MX)
		at := netip.MustParseAddr(stranger)
		b.talk(t, stranger, "EHLO c", "MAIL FROM:<>", "RCPT TO:<nobody@example.org>")
		if b.State.Known(at, true) {
			t.Error("a client that brought nothing is known")
		}
		b.deliver(t, stranger, "x")
		if !b.State.Known(at, true) || b.State.Known(netip.MustParseAddr("203.0.113.9"), true) {
			t.Error("a client that brought a message is not known, or another is")
		}
		if b.State.Known(at, false) {
			t.Error("a stranger's message makes it known at the ports for logins")
		}
		f := &b.State.friends
		f.met(netip.MustParseAddr("192.0.2.9"), true, time.Now())
		for i := range 2 * mostFriends {
			f.met(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), false, time.Now())
		}
		if len(f.senders) != mostFriends || !b.State.Known(netip.MustParseAddr("192.0.2.9"), true) {
			t.Errorf("%d are remembered; strangers crowd out whom we know by a login: %v", len(f.senders), !b.State.Known(netip.MustParseAddr("192.0.2.9"), true))
		}
		time.Sleep(friendsFor)
		if b.State.Known(netip.MustParseAddr("192.0.2.9"), true) {
			t.Error("known for ever")
		}
	})
}
