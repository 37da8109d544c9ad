package collect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/smtp"
	"postern/verdict"
)

var (
	testSecret = []byte("a secret of the tests")
	peerAddr   = netip.MustParseAddrPort("198.51.100.4:40025")
	ownAddr    = netip.MustParseAddrPort("192.0.2.66:25")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func testConfig() Config {
	return Config{
		Domain: must(mail.ParseDomain("probe.example")), Zone: must(mail.ParseDomain("zone.example")), Secret: testSecret,
		Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::66")},
	}
}

func newTestLocal(t testing.TB, c Config) *Local {
	t.Helper()
	l, err := NewLocal(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mintOne(t testing.TB, s interface {
	Tokens(context.Context, int, time.Duration) ([]plan.Token, error)
},
) plan.Token {
	t.Helper()
	list, err := s.Tokens(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// A placed connection has addresses, as one over the network does.
type placed struct {
	net.Conn
	local, remote netip.AddrPort
}

func (p placed) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(p.local) }
func (p placed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

// dial connects a peer to the collector in memory.
func dial(t testing.TB, l *Local) *smtp.Raw {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.ServeConn(context.Background(), placed{ours, ownAddr, peerAddr}) // peers hang up as they like
	}()
	t.Cleanup(func() {
		theirs.Close()
		<-done
	})
	return smtp.NewRaw(theirs, nil)
}

// say sends commands and returns the last reply.
func say(t testing.TB, r *smtp.Raw, commands ...string) mail.Reply {
	t.Helper()
	var last mail.Reply
	for _, c := range commands {
		var err error
		if last, err = r.Command(t.Context(), c); err != nil {
			t.Fatalf("%q: %v", c, err)
		}
	}
	return last
}

func banner(t testing.TB, r *smtp.Raw) string {
	t.Helper()
	reply, err := r.Reply(t.Context())
	if err != nil || reply.Code != 220 {
		t.Fatalf("banner %v, %v", reply, err)
	}
	return reply.Text()
}

// hand delivers a message to the collector as a relay would.
func hand(t testing.TB, l *Local, from, to, message string) mail.Reply {
	t.Helper()
	r := dial(t, l)
	banner(t, r)
	if reply := say(t, r, "EHLO relay.example", "MAIL FROM:"+from, "RCPT TO:"+to); !reply.Positive() {
		return reply
	}
	say(t, r, "DATA")
	return say(t, r, strings.ReplaceAll(message, "\n", "\r\n")+"\r\n.")
}

// latest returns what arrived, and fails when nothing did.
func latest(t testing.TB, l *Local, after uint64) []verdict.Arrival {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	list, _, err := l.Arrivals(ctx, after)
	if err != nil {
		t.Fatalf("no arrival: %v", err)
	}
	return list
}

func none(t testing.TB, l *Local) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nothing there"))
	if list, _, err := l.Arrivals(ctx, 0); err == nil {
		t.Errorf("there are arrivals: %+v", list)
	}
}
