package collect

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"postern/mail"
)

// A stranger's question brings no answer that points inside: such a name would
// lead a browser to the machines behind it.
func TestZonePointsInsideOnlyForATestOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := must(mail.ParseDomain("probe.example"))
		zone := func() *Zone {
			return must(NewZone(name, name, []netip.Addr{netip.MustParseAddr("192.0.2.66")}, ""))
		}
		answers := func(z *Zone, name string, kind uint16) bool {
			return len(z.reply(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), true).Answer) > 0
		}
		host := must(mail.ParseDomain("host.example"))
		for _, text := range []string{
			"127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "168.63.129.16", "0.0.0.1", "100.64.0.1", "198.18.0.1", "224.0.0.5",
			"240.0.0.1", "::1", "::7f00:1", "fd00::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::1", "100::1", "2001::1", "5f00::1",
		} {
			a := netip.MustParseAddr(text)
			names := map[string]uint16{
				testName(targetMark, name, a).ASCII():       dns.TypeAAAA,
				BackupName(name, a).ASCII():                 dns.TypeMX,
				BackupNameOf(name, a, host).ASCII():         dns.TypeMX,
				testName(targetMark, name, a).ASCII() + ".": dns.TypeAAAA,
			}
			if a.Is4() {
				names[testName(targetMark, name, a).ASCII()], names[testName(targetMark, name, a).ASCII()+"."] = dns.TypeA, dns.TypeA
			}
			if !servable(a) {
				continue
			}
			z := zone()
			for n, kind := range names {
				if answers(z, n, kind) {
					t.Errorf("%s, a stranger asks for %s: answered", text, n)
				}
			}
			z.BackupNameOf(a, host)
			for n, kind := range names {
				if !answers(z, n, kind) {
					t.Errorf("%s is tested now, %s: not answered", text, n)
				}
			}
			time.Sleep(testedFor + time.Second)
			for n, kind := range names {
				if answers(z, n, kind) {
					t.Errorf("%s was tested long ago, %s: answered", text, n)
				}
			}
			z = zone()
			z.Inside = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
			for n, kind := range names {
				if !answers(z, n, kind) {
					t.Errorf("%s is the operator's own, %s: not answered", text, n)
				}
			}
		}
		if z := zone(); !answers(z, testName(targetMark, name, netip.MustParseAddr("198.51.100.9")).ASCII(), dns.TypeA) {
			t.Error("an address of everybody's is not answered for")
		}
	})
}
