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
	"time"

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

// A check on another machine learns the same of the collector that it asks.
func TestRemoteFront(t *testing.T) {
	config := testConfig()
	config.Ports = map[uint16]uint16{443: 443}
	l := newTestLocal(t, config)
	server, _ := serveAPI(t, l, About{SMTP: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.25:2525")}})
	r := newRemote(t, server, func(*RemoteConfig) {})
	got, err := r.Front(t.Context())
	want := plan.Front{Four: netip.MustParseAddr("198.51.100.25"), Ports: map[uint16]uint16{25: 2525, 443: 443}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for text, want := range map[string]bool{banner(t, dial(t, l)): true, "probe.example ESMTP Postern collector n-aaaa": false} {
		if ours, err := r.Ours(t.Context(), text); err != nil || ours != want {
			t.Errorf("%q: ours %v, %v; want %v", text, ours, err, want)
		}
	}
}

// What a web proxy may put before a message is read away, whatever segments it
// comes in; what is no request is not touched.
func FuzzWebHead(f *testing.F) {
	for _, s := range []string{"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n", "PUT /\r\n\r\n", "EHLO x\r\n", "P", "POSTPONE\r\n", "PU", ""} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, step int) {
		if step < 1 || len(text) > maxWebHead {
			return
		}
		want := text
		if strings.HasPrefix(text, "POST ") || strings.HasPrefix(text, "PUT ") {
			_, after, ok := strings.Cut(text, "\r\n\r\n")
			if want = after; !ok {
				return // no end of the head: what is left of it is junk for the engine
			}
		}
		got, err := io.ReadAll(&webConn{Conn: segments{strings.NewReader(text), step}})
		if err != nil || string(got) != want {
			t.Fatalf("%q in segments of %d: %q, %v; want %q", text, step, got, err, want)
		}
	})
}

// segments gives at most n octets at once.
type segments struct {
	r *strings.Reader
	n int
}

func (s segments) Read(p []byte) (int, error)       { return s.r.Read(p[:min(len(p), s.n)]) }
func (s segments) Write(p []byte) (int, error)      { return len(p), nil }
func (s segments) Close() error                     { return nil }
func (s segments) LocalAddr() net.Addr              { return nil }
func (s segments) RemoteAddr() net.Addr             { return nil }
func (s segments) SetDeadline(time.Time) error      { return nil }
func (s segments) SetReadDeadline(time.Time) error  { return nil }
func (s segments) SetWriteDeadline(time.Time) error { return nil }
