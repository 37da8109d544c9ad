package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/forward"
)

// held opens a tunnel to a place and leaves it open.
func (h *frontDoor) held(client, identity, to string) (*tunnel, net.Conn, error) {
	h.t.Helper()
	address, err := forward.ParseAddress(to)
	if err != nil {
		h.t.Fatal(err)
	}
	conn, t, refusal, err := h.gate.open(h.t.Context(), h.gate.client(netip.MustParseAddrPort(client), identity), address)
	if refusal != nil {
		h.t.Fatal(refusal.Reply())
	}
	return t, conn, err
}

// One user has so many tunnels at once and opens them so fast; another, and who
// is known by the address, has their own share.
func TestTunnelLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFrontDoor(t, "socks")
		h.gate.Open, h.gate.Tunnels = &Tunnels{}, TunnelLimits{AtOnce: 2, New: Rate{5, time.Minute}}
		const place = "mail.example.org:587"
		var open []*tunnel
		for i, want := range []error{nil, nil, errLimit} {
			tunnel, conn, err := h.held(insider, "anna", place)
			if !errors.Is(err, want) || (conn == nil) != (want != nil) {
				t.Fatalf("tunnel %d: %v, want %v", i+1, err, want)
			}
			if conn != nil {
				defer conn.Close()
				open = append(open, tunnel)
			}
		}
		if _, conn, err := h.held(device, "", place); err != nil {
			t.Errorf("a trusted client beside her: %v", err)
		} else {
			defer conn.Close()
		}
		h.gate.ended(open[0], forward.Count{}, nil)
		if tunnel, conn, err := h.held(insider, "anna", place); err != nil {
			t.Errorf("after one has ended: %v", err)
		} else {
			defer conn.Close()
			h.gate.ended(tunnel, forward.Count{}, nil)
		}
		h.names["nowhere.far.example"] = nil // a way that fails takes no place
		if _, _, err := h.held(insider, "anna", "nowhere.far.example:443"); !errors.Is(err, errNoName) {
			t.Errorf("nowhere: %v", err)
		}
		h.gate.ended(open[1], forward.Count{}, nil)
		if _, _, err := h.held(insider, "anna", place); !errors.Is(err, errLimit) {
			t.Errorf("the sixth within a moment: %v", err)
		}
		time.Sleep(time.Minute)
		if _, conn, err := h.held(insider, "anna", place); err != nil {
			t.Errorf("a minute later: %v", err)
		} else {
			conn.Close()
		}
		var why []string
		for _, e := range h.events {
			if e.Kind == Refused {
				why = append(why, e.Cause+": "+e.Why+" "+e.Identity)
			}
		}
		want := "rate: anna has 2 tunnels already anna|no_way: its name has no address anna|rate: anna opens more than 5/m anna"
		if got := strings.Join(why, "|"); got != want {
			t.Errorf("refused\n%s\nwant\n%s", got, want)
		}
	})
}

// Who opens tunnels does not use up what strangers at the same address may ask,
// and a stranger is counted by the address.
func TestStrangersAtAGatewayAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFrontDoor(t, "connect")
		h.gate.Tunnels, h.gate.Limits.Connections = DefaultTunnelLimits, Rate{3, time.Minute}
		for range 20 {
			if got := h.ask(insider, "mail.example.org:587", "anna", "quiet-otter"); !strings.HasPrefix(got, "220") {
				t.Fatalf("a user: %s", got)
			}
		}
		for range 5 {
			h.ask(outsider, "mail.example.org:587", "", "")
		}
		rate := 0
		for _, e := range h.events {
			if e.Kind == Refused && e.Cause == CauseRate {
				rate++
			}
		}
		if rate != 2 {
			t.Errorf("%d of 5 strangers came too fast, want 2", rate)
		}
	})
}

func TestBudgetOfTunnels(t *testing.T) {
	for _, door := range []string{"socks", "connect", overHTTP2} {
		synctest.Test(t, func(t *testing.T) {
			h := newFrontDoor(t, door)
			h.gate.Spent = func(who string) string {
				if who == "anna" {
					return "the budget of 1GiB/day for anna is used up"
				}
				return ""
			}
			if got := h.ask(insider, "mail.example.org:587", "anna", "quiet-otter"); got != "not allowed" || len(h.dialed) > 0 {
				t.Errorf("%s: %q, and it connected to %v", door, got, h.dialed)
			}
			synctest.Wait()
			if e := h.events[len(h.events)-1]; e.Kind != Refused || e.Cause != CauseBudget || e.Identity != "anna" || e.Why == "" {
				t.Errorf("%s: the last event is %+v", door, e)
			}
			if got := h.ask(device, "mail.example.org:587", "", ""); !strings.HasPrefix(got, "220") {
				t.Errorf("%s: another: %q", door, got)
			}
		})
	}
}

// A tunnel is told of as it goes, and each octet once.
func TestTunnelsAreCountedAsTheyGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFrontDoor(t, "socks")
		h.gate.Open = &Tunnels{}
		near, far := net.Pipe()
		h.gate.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return near, nil }
		tunnel, conn, err := h.held(insider, "anna", "mail.example.org:587")
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			n, err := forward.Splice(t.Context(), theirs, conn, forward.Limits{})
			h.gate.ended(tunnel, n, err)
		}()
		pass := func(from, to net.Conn, n int) {
			t.Helper()
			go func() { _, _ = from.Write(make([]byte, n)) }()
			for got := 0; got < n; {
				m, err := to.Read(make([]byte, n))
				if err != nil {
					t.Fatal(err)
				}
				got += m
			}
			synctest.Wait()
		}
		tell := func() (list []TunnelEvent) {
			h.gate.Open.Carried(func(e TunnelEvent) { list = append(list, e) })
			return list
		}
		if got := tell(); len(got) > 0 {
			t.Errorf("before anything has passed: %+v", got)
		}
		pass(ours, far, 100)
		pass(far, ours, 5000)
		got := tell()
		if len(got) != 1 || got[0].Kind != Carried || got[0].Identity != "anna" || got[0].ID != tunnel.id || got[0].Fresh != (forward.Count{Up: 100, Down: 5000}) || got[0].Place != "mail.example.org:587" {
			t.Errorf("as it goes: %+v", got)
		}
		if now, ok := h.gate.Open.Now(tunnel.id); !ok || now != (forward.Count{Up: 100, Down: 5000}) {
			t.Errorf("now: %+v, %v", now, ok)
		}
		if got := tell(); len(got) > 0 {
			t.Errorf("told twice: %+v", got)
		}
		pass(ours, far, 11)
		ours.Close()
		far.Close()
		<-done
		last := h.events[len(h.events)-1]
		if last.Kind != Closed || last.Count != (forward.Count{Up: 111, Down: 5000}) || last.Fresh != (forward.Count{Up: 11}) {
			t.Errorf("at its end: %+v", last)
		}
		if _, ok := h.gate.Open.Now(tunnel.id); ok || len(h.gate.Open.taken) > 0 || len(tell()) > 0 {
			t.Error("it is still open")
		}
	})
}
