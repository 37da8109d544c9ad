package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"postern/forward"
	"postern/internal/identity"
	"postern/internal/queue"
	"postern/internal/state"
	"postern/mail"
	"postern/policy"
	"postern/socks"
)

// A user who is disabled while the relay starts, after its policy was made, is
// one who was disabled.
func TestUserThatIsDisabledDuringTheStart(t *testing.T) {
	t.Parallel()
	r := &running{t: t, settings: only(loopback(ordinary()), "submission"), state: filepath.Join(t.TempDir(), "s"), ended: make(chan error, 1)}
	folder := must(state.Open(r.state))
	users := must(identity.Open(r.state))
	if err := users.Add(identity.NewUser{Name: "carl", Password: password, MaySendAs: []string{"carl@example.org"}}); err != nil {
		t.Fatal(err)
	}
	r.Relay = must(New(t.Context(), Options{State: folder, Log: slog.New(slog.DiscardHandler), Load: func() (Settings, error) { return r.settings, nil }}))
	r.waitFor("carl", true)
	if err := r.users.Disable("carl"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.ended <- errors.Join(r.Run(ctx), folder.Close()) }()
	t.Cleanup(r.end)
	r.waitFor("carl", false)
}

// What was delivered needs no grant any more; the rest of its message goes on.
func TestALostGrantOfWhatIsDeliveredHoldsNothing(t *testing.T) {
	s := ordinary()
	p := proved(t, s).policy
	grant := func(to string) policy.Record {
		g, refusal := p.Decide(policy.Client{Listener: "mx"}, must(mail.ParseReversePath("<a@far.example>")), must(mail.ParseForwardPath(to)))
		if refusal != nil {
			t.Fatal(refusal)
		}
		return g.Record()
	}
	gone := grant("<anna@example.org>")
	gone.To = "<gone@example.org>"
	m := queue.Message{ID: queue.NewID(), To: []queue.Recipient{
		{Grant: gone, Goes: []queue.Delivery{{To: must(mail.ParseAddress("gone@example.org")), State: queue.Delivered}}},
		{Grant: grant("<anna@example.org>"), Goes: []queue.Delivery{{To: must(mail.ParseAddress("anna@example.org"))}}},
	}}
	if why := lost(p, &m); why != "" {
		t.Errorf("held: %s", why)
	}
	m.To[0].Goes[0].State = queue.Waiting
	if why := lost(p, &m); why == "" {
		t.Error("a grant that is lost holds nothing")
	}
}

// Trust that is withdrawn closes the tunnels that it opened.
func TestTunnelsOfATrustThatIsLost(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	s := withGateways(only(loopback(ordinary()), "mx"), l.Addr().String(), true)
	s.Policy.Trusted[0].Networks[0].Prefix = netip.MustParsePrefix("127.0.0.1/32")
	for i := range s.Policy.Gateways {
		s.Policy.Gateways[i].Login, s.Policy.Gateways[i].Clients = false, []policy.Allowed{{Client: "scanner"}}
	}
	r := run(t, s)
	conn := must(net.Dial("tcp", r.sockets.Load().addrs("socks")[0]))
	defer conn.Close()
	ask := socks.Request{Version: 5, Command: socks.Connect, To: must(forward.ParseAddress(l.Addr().String()))}
	if _, err := ask.Play(t.Context(), conn, nil); err != nil {
		t.Fatal(err)
	}
	far := must(l.Accept())
	defer far.Close()
	_ = far.SetDeadline(time.Now().Add(20 * time.Second))
	r.guard.Witness.Withdraw("scanner", "it greeted with three names")
	r.suspend("scanner", "it greeted with three names")
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the tunnel of a client that is trusted no more ended with %v", err)
	}
}

// An address that the machine gets while the relay runs is its own within the
// next look around, without a reload.
func TestAddressesThatComeLater(t *testing.T) {
	t.Parallel()
	r := run(t, only(loopback(ordinary()), "mx"))
	later := netip.MustParseAddr("198.51.100.77")
	if isOwn(r.current.Load())(later) {
		t.Fatal("it is the machine's own before it has it")
	}
	before := r.around
	r.around = func(report func(error)) policy.Surroundings {
		s := before(report)
		s.Own = append(s.Own, later)
		return s
	}
	r.lookAround(t.Context())
	if !isOwn(r.current.Load())(later) {
		t.Error("after the look around it is still a stranger's")
	}
	judged := r.current.Load()
	r.lookAround(t.Context())
	if r.current.Load() != judged {
		t.Error("the policy was judged again although nothing changed")
	}
}
