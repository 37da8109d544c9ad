package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/connect"
	"postern/forward"
	"postern/serve"
)

// greeter makes a server that greets, and writes its address into a file, in
// the place of @PLACE@: greeter FILE.
func greeter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: greeter FILE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("220 inner\r\n"))
			_, _ = bufio.NewReader(c).ReadString('\n')
			_ = c.Close()
		}
	}()
	ts.Defer(func() { _ = l.Close(); <-done })
	file := ts.MkAbs(args[0])
	text, err := os.ReadFile(file)
	ts.Check(err)
	ts.Check(os.WriteFile(file, bytes.ReplaceAll(text, []byte("@PLACE@"), []byte(l.Addr().String())), 0o600))
	ts.Setenv("PLACE", l.Addr().String())
}

// tunnel asks a gateway for a place, and talks to what is there: tunnel STATE
// GATEWAY USER PASSWORD PLACE. It fails when there is no way.
func tunnel(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 5 {
		ts.Fatalf("usage: tunnel STATE GATEWAY USER PASSWORD PLACE")
	}
	conn := knock(ts, args[0], args[1])
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to, err := forward.ParseAddress(args[4])
	ts.Check(err)
	way, _, err := connect.Request{To: to, Auth: connect.Auth{User: args[2], Password: args[3]}}.Connect(ctx, conn, nil)
	if (err != nil) != neg {
		ts.Fatalf("a way to %s: %v", args[4], err)
	}
	if err != nil {
		return
	}
	in := bufio.NewReader(way)
	line, err := in.ReadString('\n')
	ts.Check(err)
	_, err = way.Write([]byte("QUIT\r\n"))
	ts.Check(err)
	_, err = in.ReadString('\n')
	if line != "220 inner\r\n" || err == nil {
		ts.Fatalf("%q, then %v", line, err)
	}
}

// awaitTunnels waits until so many tunnels of a user have ended: awaittunnels
// STATE USER N.
func awaitTunnels(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: awaittunnels STATE USER N")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var page serve.TracePage
		err := serve.Dial(ts.MkAbs(args[0])).Get(context.Background(), "/trace?identity="+args[1], &page)
		if errors.Is(err, serve.ErrNotRunning) {
			ts.Fatalf("%v", err)
		}
		ended := 0
		for _, t := range page.Tunnels {
			if t.State == "ended" {
				ended++
			}
		}
		if err == nil && args[2] == string(rune('0'+ended)) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%d have ended, want %s: %v", ended, args[2], err)
		}
	}
}

func TestPrintTunnels(t *testing.T) {
	here(t, time.FixedZone("CET", 3600))
	at := time.Date(2026, 11, 24, 13, 2, 11, 204e6, time.UTC)
	ended := serve.TunnelTrace{
		ID: "06G1JX6QZR8V3KTM", State: "ended", Gateway: "connect", Asked: at, Done: at.Add(5*time.Minute + 696*time.Millisecond), Peer: "192.0.2.20", Identity: "anna",
		Grant: "authenticated", At: "postern.hcl:14:12", Place: "mail.example.org:587", Addr: "[2001:db8::9]:587", Up: 1234, Down: 5 << 20, Why: "nothing passed for too long: 10m0s",
	}
	open, lost := ended, ended
	open.State, open.Done, open.Why = "open", time.Time{}, ""
	lost.State, lost.Done, lost.Up, lost.Down, lost.Why = "lost", time.Time{}, 0, 0, ""
	refused := serve.TunnelTrace{ID: "06G1JX6QZR8V3KTN", State: "refused", Gateway: "connect", Asked: at, Done: at, Peer: "198.51.100.7", Place: "far.example:25\x1b[2J", Cause: "place_not_named", Why: "place \x07"}
	const head = "  from  anna                  192.0.2.20 by gateway connect\n  to    mail.example.org:587  2001:db8::9  granted: authenticated anna  postern.hcl:14:12\n  Tue 24 Nov 2026 CET\n  14:02:11.204  opened\n"
	for _, c := range []struct {
		name string
		list []serve.TunnelTrace
		more bool
		want string
	}{
		{"none", nil, false, ""},
		{"ended", []serve.TunnelTrace{ended}, false, "06G1JX6QZR8V3KTM  tunnel  ended\n" + head + "  14:07:11.900  ended after 5m0.696s, 1.2 KiB up, 5.0 MiB down: nothing passed for too long: 10m0s\n"},
		{"open", []serve.TunnelTrace{open}, true, "06G1JX6QZR8V3KTM  tunnel  open\n" + head + "  until now 1.2 KiB up, 5.0 MiB down\n  (the newest; there are more: --max, --since, --until)\n"},
		{"lost", []serve.TunnelTrace{lost}, false, "06G1JX6QZR8V3KTM  tunnel  lost\n" + head + "  the relay ended before it was noted how\n"},
		{"refused", []serve.TunnelTrace{refused}, false, "06G1JX6QZR8V3KTN  tunnel  refused\n  from  a stranger             198.51.100.7 by gateway connect\n  to    far.example:25\\x1b[2J  \n  Tue 24 Nov 2026 CET\n  14:02:11.204  refused: place_not_named, place \\x07\n"},
		{"a list", []serve.TunnelTrace{refused, ended}, true, strings.Join([]string{
			"ASKED                ID                TUNNEL                    WHO         PEER          PLACE                  UP       DOWN",
			"24 Nov 14:02:11.204  06G1JX6QZR8V3KTN  refused: place_not_named  (stranger)  198.51.100.7  far.example:25\\x1b[2J  0 B      0 B",
			"24 Nov 14:02:11.204  06G1JX6QZR8V3KTM  ended                     anna        192.0.2.20    mail.example.org:587   1.2 KiB  5.0 MiB",
			"", "there are more: --max, --since, --until; postern trace ID prints one in full", "",
		}, "\n")},
	} {
		var b bytes.Buffer
		if err := printTraces(&b, &lives{tunnels: c.list, moreTunnels: c.more}, false); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\ngot\n%s\nwant\n%s", c.name, err, b.String(), c.want)
		}
	}
}
