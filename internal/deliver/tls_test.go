package deliver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"postern/internal/queue"
	"postern/mail"
)

// vouched makes a certificate of a name, and the roots by which it is verified.
func vouched(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), // time in a bubble begins in 2000
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(der)))
	return &tls.Config{SessionTicketsDisabled: true, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

func TestTLS(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy TLSPolicy
		cert   string // the server's; "": it offers no TLS
		broken bool   // the server agrees and then breaks it off
		want   string // of the event
		tls    string
	}{
		{"may, offered", May, "other.example", false, "delivered", "TLS 1.3"},
		{"may, not offered", May, "", false, "delivered", ""},
		{"may, broken: rather in clear than not at all", May, "far.example", true, "delivered", ""},
		{"none, though offered", None, "mx.far.example", false, "delivered", ""},
		{"require, any certificate", Require, "other.example", false, "delivered", "TLS 1.3"},
		{"require, not offered", Require, "", false, "waiting 5.7.10 the server offers no TLS", ""},
		{"require, broken", Require, "mx.far.example", true, "waiting TLS handshake failed", ""},
		{"verify, its certificate", Verify, "mx.far.example", false, "delivered", "TLS 1.3 verified"},
		{"verify, another's", Verify, "other.example", false, "waiting TLS handshake failed", ""},
		{"verify, not offered", Verify, "", false, "waiting 5.7.10 the server offers no TLS", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs, roots := vouched(t, c.cert)
			bubble(t, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} }, func(w *world) {
				n := &node{}
				if c.cert != "" {
					n.tls = theirs
					if c.broken {
						n.tls = &tls.Config{MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10, Certificates: theirs.Certificates} //nolint:gosec // that is how it fails
					}
				}
				w.ways.Default = Route{Name: "default", Kind: ToMX, TLS: c.policy}
				w.mx("far.example", "10 mx.far.example")
				w.host("mx.far.example", n, "198.51.100.1:25")
				w.send("<anna@ours.example>", "<b@far.example>")
				after(10 * time.Second)
				w.mu.Lock()
				seen := w.seen
				w.mu.Unlock()
				events := w.events()
				if len(seen) == 0 {
					t.Fatal("nothing happened")
				}
				if len(seen) != 1 || !strings.HasPrefix(events[0], "b@far.example "+c.want) || seen[0].Via.TLS != c.tls {
					t.Errorf("%v over %q, want %s over %q", events, seen[0].Via.TLS, c.want, c.tls)
				}
			})
		})
	}
}

// One broken handshake, which whoever sits on the line can cause, costs a host
// that had TLS before one message in clear, and not an hour of them. A host
// that never had any is not asked again for an hour.
func TestOneBrokenHandshakeIsNotRemembered(t *testing.T) {
	theirs, roots := vouched(t, "mx.far.example")
	broken := &tls.Config{MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10, Certificates: theirs.Certificates} //nolint:gosec // that is how it fails
	for _, c := range []struct {
		name  string
		first *tls.Config
		want  string
	}{
		{"it had TLS before", theirs, "TLS 1.3,,TLS 1.3"},
		{"it never had", broken, ",,"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} }, func(w *world) {
				n := &node{}
				w.ways.Default = Route{Name: "default", Kind: ToMX, TLS: May}
				w.mx("far.example", "10 mx.far.example")
				w.host("mx.far.example", n, "198.51.100.1:25")
				for _, offers := range []*tls.Config{c.first, broken, theirs} {
					n.tls = offers
					w.send("<anna@ours.example>", "<b@far.example>")
					after(10 * time.Minute) // no connection is kept so long
				}
				var got []string
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, e := range w.seen {
					if e.State == queue.Delivered {
						got = append(got, e.Via.TLS)
					}
				}
				if joined := strings.Join(got, ","); joined != c.want {
					t.Errorf("delivered over %q, want %q", joined, c.want)
				}
			})
		})
	}
}

func TestLMTPAnswersForEachRecipient(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.ways.Ours["ours.example"] = Route{Name: "ours.example", Kind: ToHop, LMTP: true, Hosts: []Host{{"unix", "/run/lmtp", 0}}}
		l := w.lmtp("/run/lmtp", map[string]string{"<anna@ours.example>": "250 2.1.5 stored", "<ben@ours.example>": "452 4.2.2 mailbox full"})
		w.send("<stranger@far.example>", "<anna@ours.example>", "<ben@ours.example>")
		after(time.Second)
		got := w.events()
		if len(got) != 2 || got[0] != "anna@ours.example delivered 250 2.1.5 stored" || got[1] != "ben@ours.example waiting 452 4.2.2 mailbox full" {
			t.Errorf("%q", got)
		}
		if left := w.left(); len(left) != 2 || left[0] != "anna@ours.example delivered" {
			t.Errorf("%q", left)
		}
		l.says("<ben@ours.example>", "250 2.1.5 stored")
		after(10 * time.Minute)
		if left := w.left(); len(left) != 0 {
			t.Errorf("%q", left)
		}
		if l.got["<anna@ours.example>"] != 1 || l.got["<ben@ours.example>"] != 1 {
			t.Errorf("stored: %v", l.got)
		}
	})
}

func TestSmarthostLogin(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.ways.Default = Route{Name: "default", Kind: ToSmarthost, TLS: Verify, User: "we", Pass: "quiet-otter", Hosts: []Host{{"tcp", "198.51.100.1", 587}}}
		n := w.host("", &node{}, "198.51.100.1:587") // offers neither TLS nor AUTH
		w.send("<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		if e := w.events(); len(n.messages()) != 0 || !strings.Contains(e[0], "waiting 5.7.10 the server offers no TLS") {
			t.Errorf("a password went over a connection in clear, or no reason was given: %v", e)
		}
	})
}

func TestGivesUpAtTheEndOfItsLife(t *testing.T) {
	const life = 12 * time.Hour
	bubble(t, func(o *Options) { o.Lifetimes.Message = life }, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{rcpt: func(string) mail.Reply { return mail.NewReply(450, "4.2.0", "greylisted") }}, "198.51.100.1:25")
		w.sendWith(silently, "<anna@ours.example>", "<b@far.example>")
		after(life - time.Hour)
		if left := w.left(); len(left) != 1 {
			t.Fatalf("given up too early: %v", w.events())
		}
		tries := len(w.events())
		after(6 * time.Hour)
		events := w.events()
		if left := w.left(); len(left) != 0 || !strings.HasPrefix(events[len(events)-1], "b@far.example failed 450 4.2.0 greylisted") {
			t.Errorf("not given up: %v, %v", left, events)
		}
		if tries < 6 || tries > 12 {
			t.Errorf("%d attempts in eleven hours", tries)
		}
		_ = n
	})
}

// A server that breaks off while it stores a message may have stored it: it is
// asked again at the next attempt, not at once (RFC 1047).
func TestLMTPThatBreaksOffIsNotAskedAtOnce(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.ways.Ours["ours.example"] = Route{Name: "ours.example", Kind: ToHop, LMTP: true, Hosts: []Host{{"tcp", "198.51.100.1", 24}, {"tcp", "198.51.100.2", 24}}}
		stored := 0
		breaks := func(c net.Conn) {
			says(func(line string) string {
				switch line {
				case "banner":
					return "220 lmtp"
				case "DATA":
					return "354 go on"
				case ".":
					if stored++; stored > 1 {
						return ""
					}
				}
				return "250 2.0.0 ok"
			})(c)
		}
		w.fronts = map[string]func(net.Conn){"198.51.100.1:24": breaks, "198.51.100.2:24": breaks}
		w.send("<stranger@far.example>", "<ben@ours.example>")
		after(time.Second)
		w.events()
		w.send("<stranger@far.example>", "<anna@ours.example>") // over the connection that is idle
		after(time.Second)
		if said := w.events(); stored != 2 || len(said) != 1 || !strings.HasPrefix(said[0], "anna@ours.example waiting ") {
			t.Errorf("stored %d times in one attempt: %q", stored-1, said)
		}
	})
}

// TLS from the first octet is TLS: a password may go over it.
func TestSmarthostLoginOverTLSFromTheFirstOctet(t *testing.T) {
	theirs, roots := vouched(t, "mx.far.example")
	bubble(t, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} }, func(w *world) {
		w.ways.Default = Route{Name: "default", Kind: ToSmarthost, TLS: Verify, User: "we", Pass: "quiet-otter", Hosts: []Host{{"tcp", "mx.far.example", 465}}}
		w.host("mx.far.example", &node{}, "198.51.100.1:465")
		login := ""
		w.fronts = map[string]func(net.Conn){"198.51.100.1:465": func(c net.Conn) {
			says(func(line string) string {
				switch verb, arg, _ := strings.Cut(line, " "); verb {
				case "banner":
					return "220 mx.far.example"
				case "EHLO":
					return "250-mx.far.example\r\n250 AUTH PLAIN"
				case "AUTH":
					login = arg
					return "235 2.7.0 welcome"
				case "DATA":
					return "354 go on"
				}
				return "250 2.0.0 ok"
			})(tls.Server(c, theirs))
		}}
		w.send("<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		w.mu.Lock()
		seen := w.seen
		w.mu.Unlock()
		if e := w.events(); len(e) != 1 || e[0] != "b@far.example delivered 250 2.0.0 ok" || login != "PLAIN AHdlAHF1aWV0LW90dGVy" || seen[0].Via.TLS != "TLS 1.3 verified" {
			t.Errorf("%q after a login of %q", e, login)
		}
	})
}

// A message that wants more of a server than others do says nothing of it to
// the others.
func TestRequireTLSDelaysNoOther(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.mx("far.example", "10 mx.far.example")
		n := w.host("mx.far.example", &node{}, "198.51.100.1:25") // offers no TLS
		w.sendWith(func(l *queue.Letter) { l.Params.RequireTLS = true }, "<anna@ours.example>", "<b@far.example>")
		after(time.Second)
		w.sendWith(silently, "<anna@ours.example>", "<c@far.example>")
		after(time.Second)
		if got := n.messages(); len(got) != 1 || got[0] != "<anna@ours.example> <c@far.example>" {
			t.Errorf("it has %q; %q", got, w.events())
		}
	})
}
