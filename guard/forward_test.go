package guard

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/policy"
	"postern/smtp"
)

// queued is a listener of connections that are there already.
type queued struct{ conns chan net.Conn }

func (q queued) Accept() (net.Conn, error) {
	c, ok := <-q.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (q queued) Close() error   { return nil }
func (q queued) Addr() net.Addr { return &net.TCPAddr{} }

const v2Local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

func v2(source [4]byte) string {
	return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string(source[:]) + "\xc0\x00\x02\x01" + "\x9c\x40\x00\x19"
}

// headerless are the cases below in which a balancer passed something on that
// was no header, or none in time.
var headerless = []string{"no header", "v2 drop by drop"}

// Only a named balancer with one good header is served, and then as the client
// that the header names.
func TestProxied(t *testing.T) {
	const good = "PROXY TCP4 198.51.100.7 192.0.2.1 40000 25\r\n"
	for _, c := range []struct {
		name, from, sends string // "|" parts it into writes, a second apart
		peer              string // as whom it is served; "": it is not
	}{
		{"a look whether we listen", "192.0.2.2", "|", ""},
		{"v1", "192.0.2.2", good, "198.51.100.7"},
		{"v1, IPv6", "192.0.2.2", "PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n", "2001:db8::7"},
		{"v2", "192.0.2.2", v2([4]byte{198, 51, 100, 7}), "198.51.100.7"},
		{"no header", "192.0.2.2", "EHLO spam.example\r\n", ""},
		{"silence", "192.0.2.2", "", ""},
		{"somebody else with a header", "192.0.2.3", good, ""},
		{"somebody else without", "192.0.2.3", "EHLO spam.example\r\n", ""},
		{"loopback", "192.0.2.2", "PROXY TCP4 127.0.0.1 192.0.2.1 40000 25\r\n", ""},
		{"loopback, v2", "192.0.2.2", v2([4]byte{127, 0, 0, 1}), ""},
		{"an address of ours", "192.0.2.2", "PROXY TCP4 192.0.2.1 192.0.2.1 40000 25\r\n", ""},
		{"mapped loopback", "192.0.2.2", "PROXY TCP6 ::ffff:127.0.0.1 ::1 40000 25\r\n", ""},
		{"no address", "192.0.2.2", "PROXY TCP4 0.0.0.0 192.0.2.1 40000 25\r\n", ""},
		{"UNKNOWN", "192.0.2.2", "PROXY UNKNOWN\r\n", ""},
		{"LOCAL", "192.0.2.2", v2Local, ""},
		// A balancer sends v1 in one segment; in parts it is refused, never guessed at.
		{"v1 in parts", "192.0.2.2", "PROXY TCP4 198.5|1.100.7 192.0.2.1 400|00 25\r\n", ""},
		{"v2 in two parts", "192.0.2.2", v2([4]byte{198, 51, 100, 7})[:9] + "|" + v2([4]byte{198, 51, 100, 7})[9:], "198.51.100.7"},
		{"v1 drop by drop", "192.0.2.2", strings.Join(strings.Split(good, ""), "|"), ""},
		{"v2 drop by drop", "192.0.2.2", strings.Join(strings.Split(v2([4]byte{198, 51, 100, 7}), ""), "|"), ""},
		{"two headers, of which the first counts", "192.0.2.2", good + "PROXY TCP4 127.0.0.1 192.0.2.1 40000 25\r\n", "198.51.100.7"},
		{"v2, cut off", "192.0.2.2", v2([4]byte{198, 51, 100, 7})[:20], ""},
		{"v2, link-local", "192.0.2.2", v2([4]byte{169, 254, 1, 1}), ""},
		{"cut off", "192.0.2.2", "PROXY TCP4 198.51.100.7", ""},
		{"garbage", "192.0.2.2", "PROXY TCP4 a b c d\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(policy.MX)
				b.Limits.Pause = 0
				near, far := net.Pipe()
				l := queued{make(chan net.Conn, 1)}
				l.conns <- from{far, netip.MustParseAddr(c.from)}
				own := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
				server := &smtp.Server{Name: "mx.example.org", Handler: &b.SMTP}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				var missing []string
				go func() {
					defer close(done)
					_ = server.Run(ctx, Proxied(l, []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")}, own, func(a netip.Addr) { missing = append(missing, a.String()) }))
				}()
				began := time.Now()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					for i, part := range strings.Split(c.sends, "|") {
						if i > 0 {
							time.Sleep(time.Second) // of the bubble
						}
						if _, err := near.Write([]byte(part)); err != nil {
							return
						}
					}
				}()
				line, _ := bufio.NewReader(near).ReadString('\n')
				if served := strings.HasPrefix(line, "220"); served != (c.peer != "") || time.Since(began) > proxyPatience {
					t.Errorf("%q after %s", line, time.Since(began))
				}
				if c.peer == "" && line != "" {
					t.Errorf("refused with a word: %q", line)
				}
				if c.peer != "" && b.events[0].Peer.String() != c.peer {
					t.Errorf("served as %s", b.events[0].Peer)
				}
				near.Close()
				<-wrote
				cancel()
				close(l.conns)
				<-done
				told := c.from == "192.0.2.2" && slices.Contains(headerless, c.name)
				if (len(missing) == 1 && missing[0] == c.from) != told || len(missing) > 1 {
					t.Errorf("told of %q", missing)
				}
			})
		})
	}
}
