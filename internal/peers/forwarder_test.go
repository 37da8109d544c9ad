package peers

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"postern/mail"
	"postern/serve"
	"postern/smtp"
)

// forwarderPostfix is a customer's mail server. It sends all that it is given through our relay, and
// comes from Target4.
const forwarderPostfix = `myhostname = mail.victim.example
mydomain = victim.example
mydestination =
mynetworks = 192.0.2.0/24
relayhost = [` + Smarthost4 + `]:@PORT@
smtp_bind_address = ` + Target4 + `
inet_interfaces = ` + Target4 + `
inet_protocols = ipv4
smtp_tls_security_level = none
`

// forwarderRelay is our relay, at another address.
const forwarderRelay = `hostname = "smarthost.isp.example"
state = "/var/lib/postern"
resolver = "127.0.0.1:53"
listener "trusted" {
  port      = @PORT@
  addresses = ["` + Smarthost4 + `"]
}
trusted_client "customer" {
  address     = "` + Target4 + `"
  may_send_as = ["*@victim.example"]
@MORE@
}
route "default" { via = "hold" }
limits {
  new_connections   = "100000/m"
  stranger_messages = "100000/m"
}
`

// beforeRelay makes a world with our relay, the customer's server at port 2500, and a forwarder on
// the customer's machine.
func beforeRelay(port, more, listeners, start string, files map[string]string) func() setup {
	replace := strings.NewReplacer("@PORT@", port, "@MORE@", more).Replace
	all := map[string]string{
		"etc/postern/postern.hcl": replace(forwarderRelay) + listeners,
		"etc/postfix/main.cf":     override(postfixMain, replace(forwarderPostfix)),
		"etc/postfix/master.cf":   strings.Replace(postfixMaster, "smtp       inet", "2500       inet", 1),
	}
	for name, text := range files {
		all[name] = text
	}
	return func() setup {
		s := proxy("25", "ip addr add "+Smarthost4+"/24 dev eth0\nmkdir -p /var/lib\n/run/peers/postern serve --config /etc/postern/postern.hcl &\n"+
			"while [ ! -S /var/lib/postern/control ]; do sleep 0.1; done\n"+strings.TrimSpace(postfixStart)+"\n"+start, all)()
		s.ports, s.postern = []string{"25", "2500"}, true
		return s
	}
}

// hand gives a message to a port of the target and returns the last reply; "" if the connection was
// closed without a word.
func hand(t *testing.T, target *Target, port, helo, from, to, header string) string {
	t.Helper()
	conn, err := target.Dial(t.Context(), "tcp", net.JoinHostPort(Target4, port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c, err := smtp.NewClient(t.Context(), conn, smtp.ClientOptions{})
	if err != nil {
		return ""
	}
	if err := c.Hello(t.Context(), helo); err != nil {
		return err.Error()
	}
	e := mail.Envelope{From: parsed(t, mail.ParseReversePath, from), To: []mail.Recipient{{Path: parsed(t, mail.ParseForwardPath, to)}}}
	results, reply, err := c.Send(t.Context(), e, strings.NewReader(header+"From: "+from+"\r\nSubject: forwarded\r\n\r\ntext\r\n"))
	if err != nil {
		return err.Error()
	}
	for _, r := range results {
		if !r.Reply.Positive() {
			return r.Reply.String()
		}
	}
	return reply.String()
}

func parsed[T any](t *testing.T, parse func(string) (T, error), text string) T {
	t.Helper()
	v, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// arrives waits until so many messages of the customer's server are in our relay's queue.
func (t *Target) arrives(tb testing.TB, helo string, want int) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		n := 0
		for _, m := range t.queue(tb) {
			if m.Helo == helo && m.Identity == "customer" {
				n++
			}
		}
		if n == want {
			return
		}
		if time.Now().After(end) {
			tb.Fatalf("%d messages of %s are in the queue, want %d", n, helo, want)
		}
	}
}

func (t *Target) status(tb testing.TB) (s serve.Status) {
	tb.Helper()
	if err := serve.Dial(t.state()).Get(tb.Context(), "/status", &s); err != nil {
		tb.Fatal(err)
	}
	return s
}

const customerHelo = "mail.victim.example"

// bots are strangers as they come to a port 25 that seems to be open: each with a name of its own,
// in the name of the server's own domain, with and without a trace.
var bots = []struct{ helo, header string }{
	{"ylmf-pc", ""},
	{"out7.bulk.example", "Received: from x ([198.51.100.5]) by relay.elsewhere.example with SMTP; Tue, 24 Nov 2026 10:00:00 +0000\r\n"},
	{"[198.51.100.77]", ""},
	{"win-4k2", ""},
	{"localhost", ""},
	{"mail3.spam.example", ""},
}

// A customer's machine passes its port 25 on to us, so that every stranger comes from the customer's
// address. The customer's own server is served until the strangers come; then the client is
// suspended within a few messages, and everybody who looks is told.
func TestForwarderBeforeOurRelay(t *testing.T) {
	Require(t)
	for _, f := range []struct {
		name, start string
		files       map[string]string
	}{
		{"socat", "socat TCP-LISTEN:25,bind=" + Target4 + ",fork,reuseaddr TCP:" + Smarthost4 + ":25,bind=" + Target4 + " &", nil},
		{"nftables", "nft -f /etc/nftables.conf", nftRules("ct status dnat snat to " + Target4)},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			target := Start(t, Case{Server: f.name, Config: "before-our-relay", setup: beforeRelay("25", "", "", f.start, f.files)})
			for i := range 3 {
				if got := hand(t, target, "2500", "pc.victim.example", fmt.Sprintf("<user%d@victim.example>", i), "<b@elsewhere.example>", ""); !strings.HasPrefix(got, "250") {
					t.Fatalf("the customer's own server: %s", got)
				}
			}
			target.arrives(t, customerHelo, 3)
			if s := target.status(t); len(s.Suspended) > 0 {
				t.Fatalf("the customer is suspended before a stranger has come: %+v", s.Suspended)
			}
			taken, refused := 0, 0
			for _, b := range bots {
				got := hand(t, target, "25", b.helo, "<anna@victim.example>", "<victim@elsewhere.example>", b.header)
				switch {
				case strings.HasPrefix(got, "250"):
					taken++
				case strings.Contains(got, "451 4.7.1 This server cannot see your real address"):
					refused++
				default:
					t.Errorf("%s: %q", b.helo, got)
				}
			}
			t.Logf("%d messages of strangers were taken, %d refused", taken, refused)
			if taken > 2 || refused < 4 {
				t.Errorf("%d messages of strangers were taken, %d refused", taken, refused)
			}
			s := target.status(t)
			if len(s.Suspended) != 1 || s.Suspended[0].Client != "customer" || !strings.Contains(s.Suspended[0].Why, "other clients hide behind that address") {
				t.Errorf("suspended: %+v", s.Suspended)
			}
			if log := target.log.String(); !strings.Contains(log, `level=ERROR msg="trust withdrawn`) {
				t.Errorf("the log does not tell:\n%s", log)
			}
		})
	}
}

// The same port, passed on by HAProxy with a PROXY header: a stranger is refused by the stranger's
// own address, and the customer's server beside it goes on. A port that HAProxy passes on without a
// header is told of.
func TestProxyHeaderBeforeOurRelay(t *testing.T) {
	Require(t)
	const listeners = `
listener "mx" {
  port       = 25
  addresses  = ["` + Smarthost4 + `"]
  proxy_from = ["` + Target4 + `"]
}
domain "isp.example" {
  recipients = ["anna"]
  deliver    = "hold"
}
`
	source := "source " + Target4
	conf := haproxyConf("send-proxy-v2 " + source)
	conf["etc/haproxy/own.cfg"] += "listen bare\n  bind " + Target4 + ":26\n  server smarthost " + Smarthost4 + ":25 " + source + "\n"
	target := Start(t, Case{Server: "haproxy", Config: "before-our-relay", setup: beforeRelay("2526", `  acknowledge = ["`+Target4+`"]`, listeners, haproxyStart, conf)})
	sent := 0
	submit := func() {
		t.Helper()
		if got := hand(t, target, "2500", "pc.victim.example", "<user@victim.example>", "<b@elsewhere.example>", ""); !strings.HasPrefix(got, "250") {
			t.Fatalf("the customer's own server: %s", got)
		}
		sent++
		target.arrives(t, customerHelo, sent)
	}
	submit()
	for _, b := range bots {
		got := hand(t, target, "25", b.helo, "<anna@victim.example>", "<victim@elsewhere.example>", b.header)
		if !strings.HasPrefix(got, "550 5.7.1 We do not relay for "+Tester4) {
			t.Errorf("%s: %q", b.helo, got)
		}
	}
	if got := hand(t, target, "25", "far.example", "<a@far.example>", "<anna@isp.example>", ""); !strings.HasPrefix(got, "250") {
		t.Errorf("a stranger to us: %q", got)
	}
	submit()
	if got := hand(t, target, "26", "far.example", "<a@far.example>", "<anna@isp.example>", ""); got != "" {
		t.Errorf("without a header: %q", got)
	}
	conn, err := target.Dial(t.Context(), "tcp", net.JoinHostPort(Target4, "26"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte("EHLO far.example\r\n")); err != nil {
		t.Fatal(err)
	}
	if n, _ := conn.Read(make([]byte, 100)); n > 0 {
		t.Error("who talks first was answered")
	}
	s := target.status(t)
	if len(s.Suspended) > 0 {
		t.Errorf("suspended: %+v", s.Suspended)
	}
	if len(s.Headerless) != 1 || s.Headerless[0].Balancer.String() != Target4 || s.Headerless[0].Listener != "mx" {
		t.Errorf("without a header: %+v", s.Headerless)
	}
	submit()
}
