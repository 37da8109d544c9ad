package callout

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/mail"
)

// hop answers RCPT by its table and counts how often it was asked.
func hop(t *testing.T, replies map[string]string, asked *atomic.Int32) *Caller {
	t.Helper()
	c := New("mx.example.org", func(mail.Domain) (Hop, error) { return Hop{LMTP: true, Network: "unix", Address: "/lmtp"}, nil })
	c.Dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			_, _ = far.Write([]byte("220 lmtp\r\n"))
			for lines := bufio.NewScanner(far); lines.Scan(); {
				reply := "250 ok"
				switch line := lines.Text(); {
				case strings.HasPrefix(line, "EHLO"):
					reply = "500 this is LMTP"
				case strings.HasPrefix(line, "RCPT"):
					asked.Add(1)
					reply = replies[strings.TrimPrefix(line, "RCPT TO:")]
				case line == "QUIT":
					return
				}
				if reply == "" {
					return // hangs up
				}
				_, _ = far.Write([]byte(reply + "\r\n"))
			}
		}()
		return near, nil
	}
	return c
}

func TestExists(t *testing.T) {
	replies := map[string]string{
		"<anna@example.org>": "250 2.1.5 ok", "<nobody@example.org>": "550 5.1.1 unknown", "<full@example.org>": "452 4.2.2 full",
	}
	for _, c := range []struct {
		name, address string
		known, err    bool
		asked         int32 // in two questions
		after         time.Duration
		again         int32
	}{
		{"a mailbox", "anna@example.org", true, false, 1, yesCounts, 2},
		{"none", "nobody@example.org", false, false, 1, noCounts, 2},
		{"one that is full, which is no answer", "full@example.org", false, true, 2, 0, 3},
		{"a next hop that hangs up", "lost@example.org", false, true, 2, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				caller := hop(t, replies, &asked)
				a, err := mail.ParseAddress(c.address)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if known, err := caller.Exists(t.Context(), a); known != c.known || (err != nil) != c.err {
						t.Errorf("Exists(%s) = %v, %v", a, known, err)
					}
				}
				if n := asked.Load(); n != c.asked {
					t.Errorf("asked %d times, want %d", n, c.asked)
				}
				time.Sleep(c.after)
				_, _ = caller.Exists(t.Context(), a)
				if n := asked.Load(); n != c.again {
					t.Errorf("after %s asked %d times, want %d", c.after, n, c.again)
				}
			})
		})
	}
}

func TestManyAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		caller := hop(t, map[string]string{"<anna@example.org>": "250 ok"}, &asked)
		a, _ := mail.ParseAddress("anna@example.org")
		for range 20 {
			go func() {
				if known, err := caller.Exists(t.Context(), a); !known || err != nil {
					t.Errorf("Exists = %v, %v", known, err)
				}
			}()
		}
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}
