package check_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/forward"
	"postern/plan"
	"postern/verdict"
)

// takesAll is a mail server without a wire behind it: it greets as it is told
// and takes whatever it is given.
func takesAll(c net.Conn, greeting string) {
	in := bufio.NewScanner(c)
	_, _ = io.WriteString(c, greeting+"\r\n")
	for data := false; in.Scan(); {
		switch line := in.Text(); {
		case data && line != ".":
		case line == "QUIT":
			return
		case line == "DATA":
			data = true
			_, _ = io.WriteString(c, "354 go on\r\n")
		default:
			data = false
			_, _ = io.WriteString(c, "250 ok\r\n")
		}
	}
}

// drips writes one octet a second.
func drips(c net.Conn, text string) {
	for i := range len(text) {
		if _, err := c.Write([]byte{text[i]}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// saysSOCKS grants whatever is asked for, and then does what follows.
func saysSOCKS(after func(net.Conn)) func(context.Context, net.Conn) {
	return func(_ context.Context, c net.Conn) {
		defer c.Close()
		b := make([]byte, 512)
		n, err := c.Read(b)
		if err != nil || n < 3 || b[0] != 5 {
			return
		}
		_, _ = c.Write([]byte{5, 0})
		if _, err := c.Read(b); err != nil {
			return
		}
		_, _ = c.Write([]byte{5, 0, 0, 1, 192, 0, 2, 1, 0, 25})
		after(c)
	}
}

// A row for each lie that a proxy could tell. No lie makes it open, since
// nothing arrives; silence is never a proof that it is closed; and nothing
// takes longer than the check is willing to wait.
func TestLiars(t *testing.T) {
	banner := func(nonce string) string {
		return "220 " + plan.Banner{Domain: "probe.example", Nonce: nonce, Peer: netip.MustParseAddr(targetAt)}.String()
	}
	doubtful := []verdict.Verdict{verdict.Inconclusive, verdict.NotTested}
	harmless := []verdict.Verdict{verdict.Closed, verdict.Inconclusive, verdict.NotTested}
	takes := []verdict.Verdict{verdict.Accepts}
	for _, c := range []struct {
		name   string
		port   string
		serve  func(*city) serve
		want   []verdict.Verdict // one of them
		atMost time.Duration
	}{
		{"200, and an echo", "8080", func(*city) serve {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); _, _ = io.Copy(c, c) })
		}, doubtful, 5 * time.Minute},
		{"an echo from the first octet", "1080", func(*city) serve {
			return func(_ context.Context, c net.Conn) { _, _ = io.Copy(c, c); c.Close() }
		}, harmless, 5 * time.Minute},
		{"200, and a page that begins like a greeting", "8080", func(*city) serve {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n220 visitors were here before you\r\n<html></html>\r\n")
			})
		}, harmless, 5 * time.Minute},
		{"200, and a page that is a whole conversation", "8080", func(*city) serve {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, yes+banner("n-aaaaaaaaaaaaaaaa")+"\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 taken\r\n221 bye\r\n")
			})
		}, []verdict.Verdict{verdict.Accepts, verdict.Closed, verdict.Inconclusive}, 5 * time.Minute},
		{"a post is answered with a whole conversation", "8080", func(*city) serve {
			return func(_ context.Context, c net.Conn) {
				defer c.Close()
				head := make([]byte, 4096)
				n, _ := c.Read(head)
				if !strings.HasPrefix(string(head[:n]), "P") {
					_, _ = io.WriteString(c, "HTTP/1.1 405 Not Allowed\r\n\r\n")
					return
				}
				_, _ = io.WriteString(c, banner("n-aaaaaaaaaaaaaaaa")+"\r\n500 what\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 taken\r\n221 bye\r\n")
			}
		}, takes, 5 * time.Minute},
		{"a mail server of its own that greets as the collector does, with a nonce of its own", "8080", func(*city) serve {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); takesAll(c, banner("n-aaaaaaaaaaaaaaaaaaaaaaaa")) })
		}, takes, 5 * time.Minute},
		{"... with one that the collector gave it long ago", "8080", func(w *city) serve {
			old := heard(w)
			time.Sleep(7 * 24 * time.Hour)
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); takesAll(c, old) })
		}, takes, 5 * time.Minute},
		{"... with one that the collector gave it a moment ago", "8080", func(w *city) serve {
			old := heard(w)
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); takesAll(c, old) })
		}, takes, 5 * time.Minute},
		{"SOCKS that leads everybody to a mail server of its own", "1080", func(*city) serve {
			return saysSOCKS(func(c net.Conn) { takesAll(c, "220 mx.victim.example ESMTP") })
		}, takes, 5 * time.Minute},
		{"SOCKS that grants, and echoes", "1080", func(*city) serve { return saysSOCKS(func(c net.Conn) { _, _ = io.Copy(c, c) }) }, doubtful, 10 * time.Minute},
		{"SOCKS that answers octet by octet", "1080", func(*city) serve {
			return func(_ context.Context, c net.Conn) {
				_, _ = c.Read(make([]byte, 64))
				drips(c, "\x05\x00\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x19"+strings.Repeat("\x00", 1000))
				c.Close()
			}
		}, harmless, 15 * time.Minute},
		{"an answer of HTTP, octet by octet and without an end", "8080", func(*city) serve {
			return reads(func(c net.Conn) { drips(c, "HTTP/1.1 200 OK\r\nX-Wait: "+strings.Repeat("x", 5000)) })
		}, doubtful, 16 * time.Minute},
		{"a yes, and a greeting octet by octet", "8080", func(*city) serve {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); drips(c, "220 "+strings.Repeat("x", 5000)) })
		}, doubtful, 16 * time.Minute},
		{"a mail server behind it that answers octet by octet", "8080", func(*city) serve {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, yes+"220 mx.victim.example\r\n")
				drips(c, strings.Repeat("250-", 3000))
			})
		}, doubtful, 16 * time.Minute},
		{"a handshake octet by octet", "443", func(*city) serve {
			return func(_ context.Context, c net.Conn) {
				_, _ = c.Read(make([]byte, 64))
				drips(c, "\x16\x03\x03\x40\x00\x02"+strings.Repeat("\x00", 5000))
				c.Close()
			}
		}, doubtful, time.Minute},
		{"a handshake of chance", "443", func(*city) serve {
			return func(_ context.Context, c net.Conn) {
				_, _ = c.Read(make([]byte, 64))
				_, _ = io.WriteString(c, "\x16\x03\x03\x00\x10abcdefghijklmnop")
				c.Close()
			}
		}, doubtful, time.Minute},
		{"an alert, and no TLS", "3128", func(*city) serve {
			return func(_ context.Context, c net.Conn) {
				_, _ = c.Read(make([]byte, 64))
				_, _ = io.WriteString(c, "\x15\x03\x01\x00\x02\x02\x46")
				c.Close()
			}
		}, doubtful, time.Minute},
		{"TLS, and octets of chance inside", "443", func(*city) serve {
			return wrapping{alpn: []string{"http/1.1"}}.around(t, func(_ context.Context, c net.Conn) {
				_, _ = c.Read(make([]byte, 64))
				_, _ = c.Write([]byte("\x00\x01\xff\xfe\r\n\r\n\x05\x00"))
				c.Close()
			})
		}, harmless, time.Minute},
		{"TLS, and silence inside", "443", func(*city) serve {
			return wrapping{alpn: []string{"h2", "http/1.1"}}.around(t, func(_ context.Context, c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() })
		}, doubtful, 10 * time.Minute},
		{"TLS that chooses HTTP/2, and speaks HTTP/1.1", "443", func(*city) serve {
			return wrapping{alpn: []string{"h2"}}.around(t, func(_ context.Context, c net.Conn) {
				_, _ = c.Read(make([]byte, 64))
				_, _ = io.WriteString(c, yes+"220 mx.victim.example\r\n")
				c.Close()
			})
		}, harmless, time.Minute},
		{"HTTP/2: 200, and the end of the stream", "443", func(*city) serve {
			return wrapping{alpn: []string{"h2"}}.around(t, versions(func(context.Context, forward.Address) (net.Conn, error) {
				near, far := net.Pipe()
				far.Close()
				return near, nil
			}, map[int]int{2: http.StatusOK}))
		}, harmless, 5 * time.Minute},
		{"HTTP/2: 200, and silence", "443", func(*city) serve {
			return wrapping{alpn: []string{"h2"}}.around(t, versions(func(context.Context, forward.Address) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, far) }()
				return near, nil
			}, map[int]int{2: http.StatusOK}))
		}, doubtful, 5 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				w.hosts[targetAt+":"+c.port] = c.serve(w)
				a := w.check(check.Options{})
				if len(a.Doors) == 0 {
					t.Fatalf("no door; shut %v", a.Shut)
				}
				d := a.Worst()
				if !slices.Contains(c.want, d.Verdict) || w.took > c.atMost {
					t.Errorf("%s (%s) in %s, want one of %v in %s\n%s", d.Verdict, d.Why, w.took, c.want, c.atMost, outcomes(d.Judgement))
				}
				w.stayedHome()
			})
		})
	}
}

// heard is a greeting of the collector's.
func heard(w *city) string {
	c, err := w.from(elsewhereAt)(context.Background(), "tcp", collectorAt+":25")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
