package collect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/internal/resolve"
	"postern/mail"
)

func testZone(t testing.TB, domain string) *Zone {
	t.Helper()
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("2001:db8::66")}
	z, err := NewZone(must(mail.ParseDomain("probe.example")), must(mail.ParseDomain(domain)), addresses, "mail abuse@ours.example")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// serveZone runs the zone on loopback and returns its address.
func serveZone(t testing.TB, z *Zone) string {
	t.Helper()
	var pc net.PacketConn
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	for range 20 { // until a port is free over both
		var err error
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			break
		}
		l.Close()
		l = must(net.Listen("tcp", "127.0.0.1:0"))
	}
	if pc == nil {
		t.Fatal("no port is free over both UDP and TCP")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- z.Run(ctx, pc, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func query(t testing.TB, network, at string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	reply, _, err := c.Exchange(m, at)
	if err != nil {
		t.Fatalf("%s %v: %v", network, m.Question, err)
	}
	return reply
}

func question1(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

// short is a reply on one line: code, then the records without their TTL.
func short(reply *dns.Msg) string {
	parts := []string{dns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		f := strings.Fields(rr.String())
		parts = append(parts, strings.Join(slices.Delete(f, 1, 3), " "))
	}
	for _, rr := range reply.Ns {
		parts = append(parts, "+"+dns.TypeToString[rr.Header().Rrtype])
	}
	return strings.Join(parts, "; ")
}

func TestZoneAnswers(t *testing.T) {
	at := serveZone(t, testZone(t, "in.deep.probe.example"))
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"probe.example.", dns.TypeMX, "NOERROR; probe.example. MX 10 mx.probe.example."},
		{"Probe.EXAMPLE.", dns.TypeMX, "NOERROR; Probe.EXAMPLE. MX 10 mx.probe.example."},
		{"probe.example.", dns.TypeNS, "NOERROR; probe.example. NS ns.probe.example."},
		{"probe.example.", dns.TypeSOA, "NOERROR; probe.example. SOA ns.probe.example. postmaster.probe.example. 0 3600 600 604800 60"},
		{"probe.example.", dns.TypeA, "NOERROR; probe.example. A 192.0.2.66"},
		{"probe.example.", dns.TypeAAAA, "NOERROR; probe.example. AAAA 2001:db8::66"},
		{"probe.example.", dns.TypeTXT, `NOERROR; probe.example. TXT "v=spf1 ?all"; probe.example. TXT "mail abuse@ours.example"`},
		{"probe.example.", dns.TypeANY, `NOERROR; probe.example. HINFO "RFC8482" ""`},
		{"probe.example.", dns.TypeCAA, "NOERROR; +SOA"},
		{"mx.probe.example.", dns.TypeA, "NOERROR; mx.probe.example. A 192.0.2.66"},
		{"ns.probe.example.", dns.TypeAAAA, "NOERROR; ns.probe.example. AAAA 2001:db8::66"},
		{"mx.probe.example.", dns.TypeMX, "NOERROR; +SOA"},
		{"v4.probe.example.", dns.TypeMX, "NOERROR; v4.probe.example. MX 10 mxv4.probe.example."},
		{"V6.probe.example.", dns.TypeMX, "NOERROR; V6.probe.example. MX 10 mxv6.probe.example."},
		{"mxv4.probe.example.", dns.TypeA, "NOERROR; mxv4.probe.example. A 192.0.2.66"},
		{"mxv4.probe.example.", dns.TypeAAAA, "NOERROR; +SOA"},
		{"mxv6.probe.example.", dns.TypeA, "NOERROR; +SOA"},
		{"mxv6.probe.example.", dns.TypeAAAA, "NOERROR; mxv6.probe.example. AAAA 2001:db8::66"},
		{"in.deep.probe.example.", dns.TypeMX, "NOERROR; in.deep.probe.example. MX 10 mx.probe.example."},
		{"deep.probe.example.", dns.TypeMX, "NOERROR; +SOA"}, // RFC 8020: a name exists when one below it does
		{"eep.probe.example.", dns.TypeMX, "NXDOMAIN; +SOA"},
		{"no.in.deep.probe.example.", dns.TypeMX, "NXDOMAIN; +SOA"},
		{"nosuch.probe.example.", dns.TypeA, "NXDOMAIN; +SOA"},

		{"b-cb00710a.probe.example.", dns.TypeMX, "NOERROR; b-cb00710a.probe.example. MX 10 mx.probe.example.; b-cb00710a.probe.example. MX 20 t-cb00710a.probe.example."},
		{"B-CB00710A.probe.example.", dns.TypeMX, "NOERROR; B-CB00710A.probe.example. MX 10 mx.probe.example.; B-CB00710A.probe.example. MX 20 t-cb00710a.probe.example."},
		{"b-cb00710a.probe.example.", dns.TypeA, "NOERROR; +SOA"},
		{"t-cb00710a.probe.example.", dns.TypeA, "NOERROR; t-cb00710a.probe.example. A 203.0.113.10"},
		{"t-cb00710a.probe.example.", dns.TypeAAAA, "NOERROR; +SOA"},
		{"t-20010db8000000000000000000000001.probe.example.", dns.TypeAAAA, "NOERROR; t-20010db8000000000000000000000001.probe.example. AAAA 2001:db8::1"},
		{"b-20010db8000000000000000000000001.probe.example.", dns.TypeMX, "NOERROR; b-20010db8000000000000000000000001.probe.example. MX 10 mx.probe.example.; b-20010db8000000000000000000000001.probe.example. MX 20 t-20010db8000000000000000000000001.probe.example."},
		{"b-cb0071.probe.example.", dns.TypeMX, "NXDOMAIN; +SOA"},
		{"b-cb00710g.probe.example.", dns.TypeMX, "NXDOMAIN; +SOA"},
		{"t-00000000.probe.example.", dns.TypeA, "NXDOMAIN; +SOA"},                            // no host's address
		{"t-e0000001.probe.example.", dns.TypeA, "NXDOMAIN; +SOA"},                            // multicast
		{"t-00000000000000000000ffffcb00710a.probe.example.", dns.TypeAAAA, "NXDOMAIN; +SOA"}, // one name for one address
		{"x.b-cb00710a.probe.example.", dns.TypeMX, "NXDOMAIN; +SOA"},

		{"example.", dns.TypeNS, "REFUSED"},
		{"far.example.", dns.TypeA, "REFUSED"},
		{"notprobe.example.", dns.TypeA, "REFUSED"},
		{".", dns.TypeNS, "REFUSED"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply := query(t, network, at, question1(c.name, c.kind))
			if got := short(reply); got != c.want {
				t.Errorf("%s %s %s:\n got  %s\n want %s", network, dns.TypeToString[c.kind], c.name, got, c.want)
			}
			if reply.Authoritative != (reply.Rcode != dns.RcodeRefused) || reply.RecursionAvailable {
				t.Errorf("%s %s: authority %v, recursion %v", network, c.name, reply.Authoritative, reply.RecursionAvailable)
			}
		}
	}
}

func TestZoneOutsideOfTheUsual(t *testing.T) {
	at := serveZone(t, testZone(t, "probe.example"))
	axfr := question1("probe.example.", dns.TypeAXFR)
	if got := short(query(t, "tcp", at, axfr)); got != "REFUSED" {
		t.Errorf("AXFR: %s", got)
	}
	chaos := question1("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if got := short(query(t, "udp", at, chaos)); got != "REFUSED" {
		t.Errorf("version.bind: %s", got)
	}
	update := new(dns.Msg).SetUpdate("probe.example.")
	if got := query(t, "udp", at, update).Rcode; got != dns.RcodeNotImplemented {
		t.Errorf("an update: %s", dns.RcodeToString[got])
	}
	edns := question1("probe.example.", dns.TypeMX)
	edns.SetEdns0(4096, true)
	reply := query(t, "udp", at, edns)
	if opt := reply.IsEdns0(); opt == nil || opt.UDPSize() != zoneUDP {
		t.Errorf("EDNS is answered with %v, want an OPT record of %d", opt, zoneUDP)
	}
	edns.IsEdns0().SetVersion(1)
	if reply := query(t, "udp", at, edns); reply.Rcode != dns.RcodeBadVers || len(reply.Answer) != 0 {
		t.Errorf("EDNS 1: %s", short(reply))
	}
	if reply := query(t, "udp", at, question1("probe.example.", dns.TypeMX)); reply.IsEdns0() != nil {
		t.Error("who sends no OPT record gets one")
	}
}

func TestZoneTellsLongAnswersToComeOverTCP(t *testing.T) {
	z := testZone(t, "probe.example")
	for i := range 100 {
		z.Addresses = append(z.Addresses, netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}))
	}
	at := serveZone(t, z)
	m := question1("mx.probe.example.", dns.TypeA)
	plain := query(t, "udp", at, m)
	m.SetEdns0(65000, false)
	edns := query(t, "udp", at, m)
	for _, c := range []struct {
		name  string
		reply *dns.Msg
		most  int
	}{{"plain", plain, 512}, {"EDNS", edns, zoneUDP}} {
		c.reply.Compress = true // as it came
		if !c.reply.Truncated || c.reply.Len() > c.most {
			t.Errorf("%s: %d octets, truncated %v; want no more than %d, and TC", c.name, c.reply.Len(), c.reply.Truncated, c.most)
		}
	}
	r, err := resolve.New(resolve.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(at)}})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := r.A(t.Context(), "mx.probe.example"); err != nil || len(list) != 101 {
		t.Errorf("a resolver gets %d addresses, %v; want 101 over TCP", len(list), err)
	}
}

// A resolver that is not of our library reads the zone as well.
func TestZoneReadByGo(t *testing.T) {
	at := serveZone(t, testZone(t, "probe.example"))
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
	list, err := r.LookupMX(t.Context(), "b-cb00710a.probe.example.")
	if err != nil || len(list) != 2 || list[0].Host != "mx.probe.example." || list[1].Host != "t-cb00710a.probe.example." {
		t.Errorf("LookupMX = %v, %v", list, err)
	}
	addrs, err := r.LookupNetIP(t.Context(), "ip", "t-cb00710a.probe.example.")
	if err != nil || len(addrs) != 1 || addrs[0].Unmap() != netip.MustParseAddr("203.0.113.10") {
		t.Errorf("LookupNetIP = %v, %v", addrs, err)
	}
	var dnsError *net.DNSError
	if _, err := r.LookupHost(t.Context(), "nosuch.probe.example."); !errors.As(err, &dnsError) || !dnsError.IsNotFound {
		t.Errorf("LookupHost of nothing: %v", err)
	}
}

func TestZoneIsNoAmplifier(t *testing.T) {
	h := &zoneHandler{zone: testZone(t, "probe.example"), limit: newLimiter(zoneRate, zoneBurst)}
	w := &recorder{from: &net.UDPAddr{IP: net.IPv4(203, 0, 113, 5), Port: 53}}
	m := question1("probe.example.", dns.TypeMX)
	for range 1000 {
		h.ServeDNS(w, m)
	}
	whole, empty := 0, 0
	for _, r := range w.replies {
		if r.Truncated && len(r.Answer) == 0 {
			empty++
		} else {
			whole++
		}
	}
	if whole < zoneBurst || whole > 2*zoneBurst || empty < 300 || empty > 500 {
		t.Errorf("of 1000 questions at once %d were answered and %d told to come over TCP; want about %d, and half of the rest", whole, empty, zoneBurst)
	}
	tcp := &recorder{from: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 5), Port: 53}}
	if h.ServeDNS(tcp, m); len(tcp.replies) != 1 || tcp.replies[0].Truncated {
		t.Error("over TCP, where nobody forges an address, there is no answer")
	}
	for _, kind := range []uint16{dns.TypeMX, dns.TypeTXT, dns.TypeANY, dns.TypeSOA, dns.TypeA} {
		q := question1("b-20010db8000000000000000000000001.probe.example.", kind)
		if kind != dns.TypeMX {
			q = question1("probe.example.", kind)
		}
		q.SetEdns0(4096, true)
		reply := h.zone.reply(q, true)
		if factor := float64(reply.Len()) / float64(q.Len()); factor > 4 {
			t.Errorf("%s: %d octets answer %d", dns.TypeToString[kind], reply.Len(), q.Len())
		}
	}
}

// recorder is a ResponseWriter that keeps the replies.
type recorder struct {
	dns.ResponseWriter
	from    net.Addr
	replies []*dns.Msg
}

func (r *recorder) RemoteAddr() net.Addr { return r.from }
func (r *recorder) WriteMsg(m *dns.Msg) error {
	r.replies = append(r.replies, m)
	return nil
}

func TestNewZoneRefuses(t *testing.T) {
	name, own := must(mail.ParseDomain("probe.example")), []netip.Addr{netip.MustParseAddr("192.0.2.66")}
	long := must(mail.ParseDomain(strings.Repeat("abcdefgh.", 26) + "example"))
	for _, c := range []struct {
		what      string
		zone      mail.Domain
		addresses []netip.Addr
		contact   string
		want      string
	}{
		{"no name", mail.Domain{}, own, "", "--zone"},
		{"no address", name, nil, "", "--address"},
		{"every address", name, []netip.Addr{netip.IPv4Unspecified()}, "", "--address"},
		{"a long contact", name, own, strings.Repeat("x", 256), "255"},
		{"a long name", long, own, "", "no room"},
	} {
		if _, err := NewZone(c.zone, name, c.addresses, c.contact); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.what, err, c.want)
		}
	}
}

func ExampleBackupName() {
	zone, _ := mail.ParseDomain("probe.example")
	fmt.Println(BackupName(zone, netip.MustParseAddr("203.0.113.10")))
	fmt.Println(BackupName(zone, netip.MustParseAddr("2001:db8::1")))
	// Output:
	// b-cb00710a.probe.example
	// b-20010db8000000000000000000000001.probe.example
}

// A name reads back as the address that it was made of, and every other text
// is no name.
func FuzzTestLabel(f *testing.F) {
	f.Add("b-cb00710a")
	f.Add("t-20010db8000000000000000000000001")
	f.Add("B-")
	zone := must(mail.ParseDomain("probe.example"))
	f.Fuzz(func(t *testing.T, label string) {
		mark, a, ok := parseTestLabel(label)
		if !ok {
			return
		}
		if back := testName(mark, zone, a).ASCII(); back != strings.ToLower(label)+".probe.example" {
			t.Fatalf("%q is %s of %s, whose name is %q", label, mark, a, back)
		}
	})
}

// Whatever is asked, the reply is to it, fits, and packs.
func FuzzZoneReply(f *testing.F) {
	for _, q := range []*dns.Msg{question1("probe.example.", dns.TypeMX), question1("b-cb00710a.probe.example.", dns.TypeANY), question1("b-cb00710a.mx.far.example.h.probe.example.", dns.TypeMX), question1(".", dns.TypeAXFR)} {
		q.SetEdns0(512, true)
		f.Add(must(q.Pack()), true)
	}
	z := testZone(f, "probe.example")
	f.Fuzz(func(t *testing.T, raw []byte, udp bool) {
		m := new(dns.Msg)
		if m.Unpack(raw) != nil {
			return
		}
		reply := z.reply(m, udp)
		packed, err := reply.Pack()
		if err != nil {
			t.Fatalf("the reply to %v does not pack: %v", m, err)
		}
		if udp && len(packed) > zoneUDP || !reply.Response || reply.Id != m.Id {
			t.Fatalf("the reply to %v: %v, %d octets", m, reply, len(packed))
		}
	})
}
