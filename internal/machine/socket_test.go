package machine

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/fstest"
)

func TestListeningNamesTheHolders(t *testing.T) {
	list, err := Listening(host())
	if err != nil {
		t.Fatal(err)
	}
	want := []Socket{
		{netip.MustParseAddrPort("203.0.113.10:25"), "master", 812},
		{netip.MustParseAddrPort("[::]:587"), "docker-proxy", 977},
		{netip.MustParseAddrPort("[2001:db8::10]:465"), "", 0}, // held by somebody whom this process may not look into
	}
	if len(list) != len(want) {
		t.Fatalf("Listening = %v, want %v", list, want)
	}
	for i := range want {
		if list[i] != want[i] {
			t.Errorf("socket %d: got %v, want %v", i, list[i], want[i])
		}
	}
	if _, err := Listening(fstest.MapFS{}); err == nil {
		t.Error("Listening without /proc/net/tcp: want an error, not an empty list")
	}
}

func TestListeningSeesThisProcess(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	list, err := Listening(os.DirFS("/"))
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if s, ok := Holder(list, at); !ok || s.Addr != at || s.PID != os.Getpid() {
		t.Errorf("Holder(%s) = %+v, %v; want this process, %d", at, s, ok, os.Getpid())
	}
}

func TestHolder(t *testing.T) {
	for _, c := range []struct {
		name, held, wanted string
		want               bool
	}{
		{"the same", "192.0.2.1:25", "192.0.2.1:25", true},
		{"another port", "192.0.2.1:26", "192.0.2.1:25", false},
		{"another address", "192.0.2.1:25", "192.0.2.2:25", false},
		{"all of IPv4 is held", "0.0.0.0:25", "192.0.2.2:25", true},
		{"all of IPv4 is wanted", "192.0.2.2:25", "0.0.0.0:25", true},
		{"all of IPv6 takes IPv4 too", "[::]:25", "192.0.2.2:25", true},
		{"all of IPv4 leaves IPv6", "0.0.0.0:25", "[2001:db8::1]:25", false},
		{"an IPv4 address written as IPv6", "[::ffff:192.0.2.1]:25", "192.0.2.1:25", true},
	} {
		_, got := Holder([]Socket{{Addr: netip.MustParseAddrPort(c.held)}}, netip.MustParseAddrPort(c.wanted))
		if got != c.want {
			t.Errorf("%s: %s held, %s wanted: in the way %v, want %v", c.name, c.held, c.wanted, got, c.want)
		}
	}
}
