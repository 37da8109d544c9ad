package serve

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/connect"
	"postern/forward"
	"postern/guard"
	"postern/internal/identity"
	"postern/internal/meter"
)

// What strangers ask, however often, pushes out nothing of ours, and neither
// fills the disk.
func TestTracesOfTunnelsAreBounded(t *testing.T) {
	dir := t.TempDir()
	traces := must(openTunnelTraces(dir))
	traces.known.size, traces.strangers.size = 4000, 10_000
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	note := func(e guard.TunnelEvent) {
		t.Helper()
		at = at.Add(time.Second)
		if err := traces.note(at, e); err != nil {
			t.Fatal(err)
		}
	}
	ours := guard.TunnelEvent{Kind: guard.Accepted, ID: "OURS", Identity: "anna", Gateway: "socks", Place: "mail.example.org:587", Peer: netip.MustParseAddr("192.0.2.20")}
	note(ours)
	ours.Kind, ours.Count = guard.Closed, forward.Count{Up: 3, Down: 4}
	note(ours)
	for i := range 2000 {
		note(guard.TunnelEvent{Kind: guard.Refused, ID: fmt.Sprintf("S%d", i), Cause: "login_needed", Why: strings.Repeat("\xff\n\"", 1000), Place: "far.example:25", Peer: netip.MustParseAddr("198.51.100.7")})
	}
	list, _, err := findTunnels(dir, tunnelSearch{identity: "ANNA"}, 10, nil)
	if err != nil || len(list) != 1 || list[0].State != tunnelEnded || list[0].Up != 3 || list[0].Down != 4 || list[0].Peer != "192.0.2.20" {
		t.Errorf("what anna did: %+v, %v", list, err)
	}
	strangers, more, err := findTunnels(dir, tunnelSearch{peer: netip.MustParseAddr("198.51.100.7")}, 2, nil)
	if err != nil || !more || len(strangers) != 2 || strangers[0].ID != "S1999" || strangers[1].ID != "S1998" || strangers[0].State != tunnelRefused {
		t.Errorf("the newest of strangers: %.300v, %v, %v", strangers, more, err)
	}
	for i := range 2000 {
		note(guard.TunnelEvent{Kind: guard.Closed, ID: fmt.Sprintf("B%d", i), Identity: "ben", Gateway: "socks"})
	}
	size := int64(0)
	for _, f := range must(os.ReadDir(dir)) {
		size += must(f.Info()).Size()
	}
	if most := int64(8*4000 + 2*10_000); size > most || size < most/2 {
		t.Errorf("%d octets are kept, at most %d", size, most)
	}
	if list, _, err := findTunnels(dir, tunnelSearch{identity: "ben"}, 0, nil); err != nil || len(list) < 50 || list[0].ID != "B1999" {
		t.Errorf("%d of ben's, %v", len(list), err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "known.3.jsonl"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := traces.forget(time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "known.3.jsonl")); !os.IsNotExist(err) {
		t.Errorf("what is old is kept: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "known.2.jsonl")); err != nil {
		t.Error(err)
	}
	if err := traces.close(); err != nil {
		t.Fatal(err)
	}
}

// One who is refused all the time does not push out others.
func TestRefusalsAreKeptForAWhile(t *testing.T) {
	dir := t.TempDir()
	traces := must(openTunnelTraces(dir))
	defer func() { _ = traces.close() }()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i := range 1000 {
		for _, who := range []string{"anna", ""} {
			if err := traces.note(at, guard.TunnelEvent{Kind: guard.Refused, ID: fmt.Sprint(who, i), Identity: who, Cause: "rate"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, _, err := findTunnels(dir, tunnelSearch{}, 0, nil)
	if err != nil || len(list) != 360 {
		t.Errorf("%d of 2000 refusals are kept, want 60 and 300: %v", len(list), err)
	}
}

// A relay that was killed left a tunnel open and a line half written.
func TestTracesOfTunnelsAfterACrash(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "known.jsonl")
	if err := os.WriteFile(file, []byte(`{"id":"A","state":"open","asked":"2026-11-24T12:00:00Z","identity":"anna"}`+"\n"+`{"id":"B","sta`), 0o600); err != nil {
		t.Fatal(err)
	}
	traces := must(openTunnelTraces(dir))
	defer func() { _ = traces.close() }()
	if err := traces.note(time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC), guard.TunnelEvent{Kind: guard.Accepted, ID: "C", Identity: "anna"}); err != nil {
		t.Fatal(err)
	}
	live := func(id string) (forward.Count, bool) { return forward.Count{Up: 7}, id == "C" }
	list, _, err := findTunnels(dir, tunnelSearch{}, 0, live)
	if err != nil || len(list) != 2 || list[0].ID != "C" || list[0].State != tunnelOpen || list[0].Up != 7 || list[1].ID != "A" || list[1].State != tunnelLost {
		t.Errorf("%+v, %v", list, err)
	}
}

// connected opens a tunnel through the connect gateway and leaves it open.
func (r *running) connected(to, user string) (net.Conn, error) {
	r.t.Helper()
	conn := must(net.Dial("tcp", r.sockets.Load().addrs("connect")[0]))
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	q := connect.Request{To: must(forward.ParseAddress(to))}
	if user != "" {
		q.Auth = connect.Auth{User: user, Password: password}
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	tunnel, _, err := q.Connect(ctx, conn, nil)
	return tunnel, err
}

// Who went where, how much, by which line, and how it ended, is found by the id
// that a client was told, by the user and by the address; it is in the sums of
// traffic while it lasts, and of the budget.
func TestTunnelsAreTracedAndCounted(t *testing.T) {
	t.Parallel()
	inner, _ := greeter(t)
	s := withGateways(only(loopback(ordinary()), "mx"), inner, true)
	for i := range s.Gateways {
		s.Gateways[i].Limits = guard.TunnelLimits{AtOnce: 2}
	}
	s.Traffic.Each = Budget{Octets: 30, Per: meter.Daily, Text: "30B/day"}
	r := run(t, s)
	if err := r.users.Add(identity.NewUser{Name: "ben", Password: password, MaySendAs: []string{"ben@example.org"}}); err != nil {
		t.Fatal(err)
	}
	r.waitFor("ben", true)
	find := func(query string) (page TracePage) {
		t.Helper()
		r.get("/trace?"+query, &page)
		return page
	}
	// told is the id in the answer that refuses a tunnel.
	told := func(to string) string {
		t.Helper()
		conn := must(net.Dial("tcp", r.sockets.Load().addrs("connect")[0]))
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		login := base64.StdEncoding.EncodeToString([]byte("ben:" + password))
		must(fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic %s\r\n\r\n", to, to, login))
		answer := string(must(io.ReadAll(conn)))
		_, id, ok := strings.Cut(answer, "[")
		if !ok || strings.HasPrefix(answer, "HTTP/1.1 200") {
			t.Fatalf("answered %q", answer)
		}
		id, _, _ = strings.Cut(id, "]")
		return id
	}

	tunnel := must(r.connected(inner, "ben"))
	in := bufio.NewReader(tunnel)
	if line, err := in.ReadString('\n'); err != nil || line != "220 inner\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	var list []TunnelTrace
	until(t, "what has passed is known", func() bool {
		list = find("identity=ben").Tunnels
		return len(list) == 1 && list[0].Down == 11
	})
	if list[0].State != tunnelOpen || list[0].Place != inner || list[0].Grant != "authenticated" || list[0].At != "" && !strings.HasPrefix(list[0].At, "postern.hcl") {
		t.Fatalf("while it is open: %+v", list)
	}
	r.open.Carried(r.tunnel)
	since := "since=" + url.QueryEscape(time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	var page TrafficPage
	r.get("/traffic?"+since, &page)
	if len(page.Rows) != 1 || page.Rows[0].Name != "ben" || page.Total != (meter.Sums{In: 11, Down: 11, Leaves: 11, Tunnels: 1}) {
		t.Errorf("in the sums while it is open: %+v", page.Report)
	}
	must(tunnel.Write([]byte("hello\r\n")))
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	tunnel.Close()
	until(t, "the end is noted", func() bool { return find("identity=ben").Tunnels[0].State == tunnelEnded })
	one := find("id=" + list[0].ID)
	if len(one.Tunnels) != 1 || one.Tunnels[0].Up != 7 || one.Tunnels[0].Down != 23 || one.Tunnels[0].Done.IsZero() || len(one.Messages) > 0 {
		t.Errorf("by its id: %+v", one)
	}
	for by, name := range map[string]string{"identity": "ben", "client": "127.0.0.0/24", "destination": inner} {
		r.get("/traffic?by="+by+"&"+since, &page)
		if len(page.Rows) != 1 || page.Rows[0].Name != name || page.Rows[0].Sums != (meter.Sums{In: 23, Out: 7, Up: 7, Down: 23, Leaves: 30, Tunnels: 1}) {
			t.Errorf("by %s: %+v", by, page.Rows)
		}
	}

	refused := find("id=" + told(inner)).Tunnels
	if len(refused) != 1 || refused[0].State != tunnelRefused || refused[0].Cause != "budget" || refused[0].Why != "the budget of 30B/day for ben is used up" || refused[0].Identity != "ben" {
		t.Errorf("beyond the budget: %+v", refused)
	}
	settings := r.settings
	settings.Traffic.Each = Budget{}
	r.settings = settings
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		must(r.connected(inner, "ben"))
	}
	if refused = find("id=" + told(inner)).Tunnels; len(refused) != 1 || refused[0].Cause != "rate" || refused[0].Why != "ben has 2 tunnels already" {
		t.Errorf("the third at once: %+v", refused)
	}
	if refused = find("id=" + told("127.0.0.1:25")).Tunnels; len(refused) != 1 || refused[0].Place != "127.0.0.1:25" {
		t.Errorf("elsewhere: %+v", refused)
	}
	if _, err := r.connected(inner, ""); err == nil {
		t.Error("a stranger came through")
	}
	until(t, "strangers are found by their address", func() bool {
		for _, one := range find("peer=127.0.0.1").Tunnels {
			if one.Identity == "" && one.State == tunnelRefused {
				return true
			}
		}
		return false
	})
	if page := find("from=ben@example.org&identity=ben"); len(page.Tunnels) > 0 {
		t.Errorf("a search for mail found %+v", page.Tunnels)
	}

	r.end()
	left, done, err := OpenTraces(r.state)
	if err != nil {
		t.Fatal(err)
	}
	after, err := left.Traces(t.Context(), url.Values{"identity": {"ben"}})
	if err = errors.Join(err, done()); err != nil || len(after.Tunnels) != 6 || after.Tunnels[5].ID != list[0].ID || after.Tunnels[2].State != tunnelEnded {
		t.Errorf("when no relay runs: %d: %+v, %v", len(after.Tunnels), after.Tunnels, err)
	}
	r.start()
}
