package collect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"postern/plan"
)

// zoneNames resolves what a front asks for.
type zoneNames map[string][]string

func (z zoneNames) Names(context.Context, netip.Addr) ([]string, error) { return nil, nil }
func (z zoneNames) Exchangers(_ context.Context, domain string) ([]string, error) {
	if z[domain] == nil {
		return nil, errors.New("NXDOMAIN")
	}
	return z[domain], nil
}

func (z zoneNames) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, text := range z[name] {
		all = append(all, netip.MustParseAddr(text))
	}
	return all, nil
}

func TestFront(t *testing.T) {
	names := zoneNames{
		"probe.example": {"other.example", "mx.probe.example"}, "mx.probe.example": {"192.0.2.66", "2001:db8::66"}, "other.example": {},
	}
	four, six := netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("2001:db8::66")
	for _, c := range []struct {
		name string
		set  func(*Config)
		want plan.Front
	}{
		{"by the DNS", func(c *Config) { c.Resolver = names }, plan.Front{Host: "mx.probe.example", Four: four, Six: six, Ports: map[uint16]uint16{25: 25}}},
		{"elsewhere than at port 25", func(c *Config) {
			c.Reach = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2526"), netip.MustParseAddrPort("[::1]:2527")}
		}, plan.Front{Four: netip.MustParseAddr("127.0.0.1"), Ports: map[uint16]uint16{25: 2526}}},
		{"with further ports", func(c *Config) {
			c.Resolver, c.Ports = names, map[uint16]uint16{443: 443, 587: 5870}
		}, plan.Front{Host: "mx.probe.example", Four: four, Six: six, Ports: map[uint16]uint16{25: 25, 443: 443, 587: 5870}}},
	} {
		config := testConfig()
		c.set(&config)
		l := newTestLocal(t, config)
		got, err := l.Front(t.Context())
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

// A web proxy hands on a whole request: to a mail server its lines are unknown
// commands, and what stands in its body is taken for commands (RFC 9112).
func TestAWebRequestBringsAMessage(t *testing.T) {
	l := newTestLocal(t, testConfig())
	token := string(mintOne(t, l))
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.ServeConn(context.Background(), placed{ours, ownAddr, peerAddr})
	}()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	request := "POST / HTTP/1.1\r\nHost: mx.probe.example:25\r\nContent-Type: text/plain\r\nContent-Length: 400\r\nVia: 1.1 proxy\r\n\r\n" +
		"\r\nRSET\r\nEHLO tester.example\r\nMAIL FROM:<>\r\nRCPT TO:<" + token + "@probe.example>\r\nDATA\r\nX-Postern-Check: " + token + "\r\n\r\nhello\r\n.\r\nQUIT\r\n"
	if _, err := io.WriteString(theirs, request); err != nil && !strings.Contains(err.Error(), "closed") {
		t.Fatal(err)
	}
	<-done
	theirs.Close()
	if a := latest(t, l, 0)[0]; string(a.Tokens[0]) != token || a.Nonce == "" {
		t.Errorf("arrived %+v, want token %s in a session with a nonce", a, token)
	}
}
