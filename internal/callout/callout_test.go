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

	"postern/guard"
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
				case strings.HasPrefix(line, "LHLO") && replies["LHLO"] != "":
					reply = replies["LHLO"]
				case strings.HasPrefix(line, "MAIL") && replies[line] != "":
					reply = replies[line]
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
		"<odd@example.org>": "503 5.5.1 bad sequence",
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
		{"one that does not know the command", "odd@example.org", false, true, 2, 0, 3},
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

// What a next hop offers is known for an hour after it was asked, and an address
// that it cannot be asked of is left to those who know the offer.
func TestOffers(t *testing.T) {
	const plain, rich = "250-lmtp\r\n250-8BITMIME\r\n250 SIZE 1000", "250-lmtp\r\n250-smtputf8\r\n250 SIZE"
	for _, c := range []struct {
		name, hello, address string
		known                bool
		want                 guard.Offer
	}{
		{"8BITMIME and a size", plain, "anna@example.org", true, guard.Offer{EightBit: true, Size: 1000}},
		{"SMTPUTF8 and no limit", rich, "anna@example.org", true, guard.Offer{UTF8: true}},
		{"nothing", "250 lmtp", "anna@example.org", true, guard.Offer{}},
		{"an address in UTF-8 and a hop that cannot", plain, "\u00fc@example.org", true, guard.Offer{EightBit: true, Size: 1000}},
		{"an address in UTF-8 and a hop that can", rich, "\u00fc@example.org", false, guard.Offer{UTF8: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				caller := hop(t, map[string]string{
					"LHLO": c.hello, "<anna@example.org>": "250 ok", "<\u00fc@example.org>": "550 5.1.1 unknown",
					"MAIL FROM:<> SMTPUTF8": "250 ok",
				}, &asked)
				a, err := mail.ParseAddress(c.address)
				if err != nil {
					t.Fatal(err)
				}
				if o, heard := caller.Offers(a.Domain()); heard {
					t.Errorf("before anybody asked: %+v", o)
				}
				if known, err := caller.Exists(t.Context(), a); known != c.known || err != nil {
					t.Errorf("Exists = %v, %v", known, err)
				}
				if o, heard := caller.Offers(a.Domain()); !heard || o != c.want {
					t.Errorf("Offers = %+v, %v; want %+v", o, heard, c.want)
				}
				time.Sleep(yesCounts + time.Second)
				if o, heard := caller.Offers(a.Domain()); heard {
					t.Errorf("after an hour: %+v", o)
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
