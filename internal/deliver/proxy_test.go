package deliver

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A front is a proxy of the net, which leads to nodes by their address. Its
// answer and the first of what comes through it leave in one piece.
func (w *world) front(socks bool, user, pass string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		var to string
		var yes []byte
		if socks {
			head := make([]byte, 2)
			_, _ = io.ReadFull(in, head)
			_, _ = io.ReadFull(in, make([]byte, head[1]))
			if user == "" {
				_, _ = c.Write([]byte{5, 0})
			} else {
				_, _ = c.Write([]byte{5, 2})
				_, _ = io.ReadFull(in, head)
				name := make([]byte, head[1])
				_, _ = io.ReadFull(in, name)
				n, _ := in.ReadByte()
				word := make([]byte, n)
				_, _ = io.ReadFull(in, word)
				if string(name) != user || string(word) != pass {
					_, _ = c.Write([]byte{1, 1})
					return
				}
				_, _ = c.Write([]byte{1, 0})
			}
			ask := make([]byte, 10)
			if _, err := io.ReadFull(in, ask); err != nil || ask[3] != 1 {
				return // a name, which it must not be asked for
			}
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ask[4:8])), binary.BigEndian.Uint16(ask[8:])).String()
			yes = []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		} else {
			q, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
			if user != "" && q.Header.Get("Proxy-Authorization") != want {
				_, _ = io.WriteString(c, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
				return
			}
			to, yes = q.Host, []byte("HTTP/1.1 200 Yes\r\n\r\n")
		}
		far, err := w.dial(context.Background(), netip.Addr{}, "tcp", to)
		if err != nil {
			return
		}
		defer far.Close()
		first := make([]byte, 512)
		n, _ := far.Read(first)
		_, _ = c.Write(append(yes, first[:n]...))
		go func() { _, _ = io.Copy(far, in); far.Close() }()
		_, _ = io.Copy(c, far)
	}
}

func TestThroughAProxy(t *testing.T) {
	for _, socks := range []bool{true, false} {
		for _, c := range []struct {
			name, user, pass string
			want             string
		}{
			{"open to us", "", "", "delivered 250"},
			{"with a login", "we", "quiet-otter", "delivered 250"},
			{"with another password", "we", "changed", "waiting 4.4.1 proxy 10.9.9.9:1080: "},
		} {
			t.Run(fmt.Sprint(c.name, ", socks ", socks), func(t *testing.T) {
				bubble(t, nil, func(w *world) {
					w.fronts = map[string]func(net.Conn){"10.9.9.9:1080": w.front(socks, c.user, c.pass)}
					p := Proxy{SOCKS: socks, Host: Host{"tcp", "10.9.9.9", 1080}}
					if c.user != "" {
						p.User, p.Pass = "we", "quiet-otter"
					}
					w.ways.Default = Route{Name: "default", Kind: ToMX, Proxy: p}
					w.mx("far.example", "10 mx.far.example")
					n := w.host("mx.far.example", &node{}, "198.51.100.1:25")
					w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
					after(10 * time.Second)
					w.mu.Lock()
					seen := w.seen
					w.mu.Unlock()
					events := w.events()
					if len(events) != 1 || !strings.HasPrefix(events[0], "b@far.example "+c.want) || strings.Contains(events[0], "quiet-otter") {
						t.Fatalf("%q, want %s", events, c.want)
					}
					if strings.HasPrefix(c.want, "delivered") && (len(n.messages()) != 1 || seen[0].Via.Addr.String() != "198.51.100.1:25") {
						t.Errorf("%v by %s", n.messages(), seen[0].Via.Addr)
					}
				})
			})
		}
	}
}
