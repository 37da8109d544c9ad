package peers

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// names is the world outside: what the target finds in DNS besides the collector's zone. Servers
// ask for it before they look at who may relay: Sendmail refuses senders whose domain does not
// exist.
var names = records(
	"victim.example. 60 IN MX 10 mx.victim.example.",
	"mx.victim.example. 60 IN A "+Target4,
	"mx.victim.example. 60 IN AAAA "+Target6,
	"far.example. 60 IN MX 10 mail.far.example.",
	"mail.far.example. 60 IN A 198.51.100.25",
	"stranger.far.example. 60 IN A "+Tester4,
	"stranger.far.example. 60 IN AAAA "+Tester6,
	"nmap.scanme.org. 60 IN A 198.51.100.26", // the sender of nmap's script
	reverse(Target4)+" 60 IN PTR mx.victim.example.",
	reverse(Target6)+" 60 IN PTR mx.victim.example.",
	reverse(Tester4)+" 60 IN PTR stranger.far.example.",
	reverse(Tester6)+" 60 IN PTR stranger.far.example.",
)

func records(texts ...string) map[string][]dns.RR {
	zone := map[string][]dns.RR{}
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic("peers: " + text + ": " + err.Error())
		}
		name := rr.Header().Name
		zone[name] = append(zone[name], rr)
	}
	return zone
}

func reverse(address string) string {
	name, err := dns.ReverseAddr(address)
	if err != nil {
		panic("peers: " + err.Error())
	}
	return name
}

// resolver serves DNS inside the target, as its own machine's resolver would: it knows names, and
// asks the tester for the collector's zone.
func (t *Target) resolver(ctx context.Context, tb testing.TB) error {
	var pc net.PacketConn
	err := t.target.within(func() (err error) {
		var lc net.ListenConfig
		pc, err = lc.ListenPacket(ctx, "udp", "127.0.0.1:53")
		return err
	})
	if err != nil {
		return err
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(t.resolve(q))
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	tb.Cleanup(func() { _ = pc.Close(); <-done })
	return nil
}

func (t *Target) resolve(q *dns.Msg) *dns.Msg {
	name := strings.ToLower(q.Question[0].Name)
	if dns.IsSubDomain(Collector+".", name) {
		return t.forward(q)
	}
	answer := new(dns.Msg).SetReply(q)
	answer.RecursionAvailable = true
	known, ok := names[name]
	if !ok {
		answer.Rcode = dns.RcodeNameError
	}
	for _, rr := range known {
		if rr.Header().Rrtype == q.Question[0].Qtype {
			answer.Answer = append(answer.Answer, rr)
		}
	}
	return answer
}

// forward asks the tester. When nobody serves the zone there yet, that is a failure which mail
// servers take for temporary.
func (t *Target) forward(q *dns.Msg) *dns.Msg {
	failed := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	var c net.Conn
	err := t.target.within(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(t.ctx, "udp", net.JoinHostPort(Tester4, "53"))
		return err
	})
	if err != nil {
		return failed
	}
	defer c.Close()
	answer, _, err := new(dns.Client).ExchangeWithConnContext(t.ctx, q, &dns.Conn{Conn: c, UDPSize: 1232})
	if err != nil {
		return failed
	}
	answer.RecursionAvailable = true
	answer.Authoritative = false
	return answer
}
