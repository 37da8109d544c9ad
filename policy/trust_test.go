package policy

import (
	"net/netip"
	"strings"
	"testing"

	"postern/internal/problem"
	"postern/mail"
)

// verdictOn compiles the sample with one trusted network more.
func verdictOn(prefix string, acknowledged ...string) error {
	s := sample()
	t := TrustedClient{Name: "tested", MaySendAs: s.Trusted[0].MaySendAs, At: problem.Pos{File: "postern.hcl", Line: 40}}
	t.Networks = []Network{{netip.MustParsePrefix(prefix), problem.Pos{File: "postern.hcl", Line: 41, Column: 14}}}
	for _, a := range acknowledged {
		t.Acknowledged = append(t.Acknowledged, netip.MustParsePrefix(a))
	}
	s.Trusted = []TrustedClient{t}
	_, err := Compile(s)
	return err
}

func TestTrustedNetworks(t *testing.T) {
	for _, c := range []struct{ prefix, want string }{ // "": trusted
		{"192.0.2.7/32", ""},
		{"192.0.2.0/24", ""},
		{"198.51.100.16/28", ""},
		{"8.8.8.8/32", ""},
		{"10.1.2.40/32", ""},
		{"10.9.2.0/24", ""},
		{"172.16.5.0/24", ""},
		{"192.168.1.0/24", ""},
		{"192.168.1.128/25", ""},
		{"127.0.0.1/32", ""},
		{"127.0.0.0/8", ""},
		{"::1/128", ""},
		{"2001:db8::7/128", ""},
		{"2001:db8:1::/48", ""},
		{"2001:db8:1:2::/64", ""},
		{"fd00:1:2::/48", ""},
		{"fd00:1:2:3::/64", ""},

		{"0.0.0.0/0", "trusts everybody"},
		{"::/0", "trusts everybody"},
		{"0.0.0.0/1", "too wide"},
		{"128.0.0.0/1", "too wide"},
		{"64.0.0.0/2", "too wide"},
		{"8.0.0.0/8", "too wide"},
		{"192.0.0.0/16", "too wide"},
		{"192.0.2.0/23", "too wide"},
		{"::/1", "too wide"},
		{"2000::/3", "too wide"},
		{"2001:db8::/32", "too wide"},
		{"2001:db8::/47", "too wide"},
		{"2a00::/12", "too wide"},
		{"10.0.0.0/8", "whole private network"},
		{"172.16.0.0/12", "whole private network"},
		{"192.168.0.0/16", "whole private network"},
		{"fc00::/7", "whole private network"},
		{"10.64.0.0/16", "whole private network"},
		{"192.168.4.0/23", "whole private network"},
		{"fd00::/8", "whole private network"},
		{"fd00::/40", "whole private network"},
		{"100.64.0.0/10", "RFC 6598"},
		{"100.64.1.0/24", "RFC 6598"},
		{"100.100.1.1/32", "RFC 6598"},
		{"169.254.0.0/16", "link-local"},
		{"169.254.169.254/32", "link-local"},
		{"fe80::/10", "link-local"},
		{"fe80::1/128", "link-local"},
		{"224.0.0.0/4", "multicast"},
		{"224.0.0.1/32", "multicast"},
		{"240.0.0.0/4", "multicast or reserved"},
		{"255.255.255.255/32", "multicast or reserved"},
		{"ff02::1/128", "multicast"},
		{"0.0.0.0/8", "no client's address"},
		{"0.0.0.0/32", "no client's address"},
		{"::/128", "no client's address"},
		{"::/96", "no client's address"},
		{"2002::/16", "6to4"},
		{"2002:c000:207::/48", "6to4"},
		{"2001:0:1::/48", "Teredo"},
		{"64:ff9b::/96", "translator"},
		{"64:ff9b::c000:207/128", "translator"},
		{"64:ff9b:1:2::/64", "translator"},
		{"168.63.129.16/32", "a cloud talks"},
		{"168.63.129.0/24", "holds 168.63.129.16/32"},
		{"192.0.0.192/32", "RFC 6890"},
		{"198.18.5.0/24", "RFC 2544"},
		{"192.88.99.0/24", "RFC 7526"},
		{"2001:20::/48", "RFC 2928"},
		{"100::/64", "RFC 6666"},
		{"5f00:1::/48", "RFC 9602"},
		{"4000::1/128", "no address that hosts are given"},
		{"fec0::1/128", "RFC 3879"},
		{"::ffff:192.0.2.7/128", "IPv4 network in IPv6 form"},
		{"::ffff:0.0.0.0/96", "IPv4 network in IPv6 form"},
		{"192.0.2.7/24", "bits behind its mask"},
		{"2001:db8::7/64", "bits behind its mask"},
		{"10.1.2.0/24", "the default gateway 10.1.2.1"},
		{"10.1.2.1/32", "the default gateway 10.1.2.1"},
	} {
		fatal, _ := problem.Split(verdictOn(c.prefix))
		switch {
		case c.want == "" && fatal != nil:
			t.Errorf("%s: %v; want it trusted", c.prefix, fatal)
		case c.want != "" && (fatal == nil || !strings.Contains(fatal.Error(), c.want)):
			t.Errorf("%s: %v; want %q", c.prefix, fatal, c.want)
		case c.want != "" && !strings.HasPrefix(fatal.Error(), "postern.hcl:41:14: "):
			t.Errorf("%s: %v does not say where", c.prefix, fatal)
		}
	}
}

func TestAcknowledgedNetworks(t *testing.T) {
	for _, c := range []struct{ name, prefix, acknowledge, want, warning string }{
		{"a whole private network", "10.0.0.0/8", "10.0.0.0/8", "the default gateway 10.1.2.1", ""},
		{"one without the gateway", "172.16.0.0/12", "172.16.0.0/12", "", "whole private network"},
		{"another than is written", "172.16.0.0/12", "172.16.0.0/16", "whole private network", ""},
		{"the gateway itself", "10.1.2.1/32", "10.1.2.1/32", "", "as you acknowledged"},
		{"everybody cannot be", "0.0.0.0/0", "0.0.0.0/0", "trusts everybody", ""},
		{"nor a wide public network", "8.0.0.0/8", "8.0.0.0/8", "too wide", ""},
	} {
		fatal, warnings := problem.Split(verdictOn(c.prefix, c.acknowledge))
		if c.want == "" && fatal != nil || c.want != "" && (fatal == nil || !strings.Contains(fatal.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", c.name, fatal, c.want)
		}
		if c.warning != "" && (warnings == nil || !strings.Contains(warnings.Error(), c.warning)) {
			t.Errorf("%s: warnings %v; want %q", c.name, warnings, c.warning)
		}
	}
}

func TestManyNarrowNetworksAreAWideOne(t *testing.T) {
	s := sample()
	s.Trusted[0].Networks = nil
	for i := range 3 {
		s.Trusted[0].Networks = append(s.Trusted[0].Networks, Network{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 0}), 24)})
	}
	if _, err := Compile(s); err == nil || !strings.Contains(err.Error(), "768 public addresses") {
		t.Errorf("three public /24: %v", err)
	}
}

func TestProxiesAreNarrowAndNeverTrusted(t *testing.T) {
	s := sample()
	s.Listeners[0].ProxyFrom = []Network{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}}
	if _, err := Compile(s); err == nil || !strings.Contains(err.Error(), "proxy_from 0.0.0.0/0 trusts everybody") {
		t.Errorf("PROXY from anybody: %v", err)
	}
	s = sample()
	s.Listeners[3].ProxyFrom = []Network{{Prefix: netip.MustParsePrefix("192.0.2.2/32")}}
	if _, err := Compile(s); err == nil || !strings.Contains(err.Error(), "takes that address from a PROXY header") {
		t.Errorf("PROXY at the listener of trusted clients: %v", err)
	}
}

func TestGatewayThatMovesIntoATrustedNetwork(t *testing.T) {
	p := compiled(t, sample())
	if found := p.OnTheRoad(Surroundings{Gateways: []netip.Addr{netip.MustParseAddr("10.1.2.1")}}); len(found) != 0 {
		t.Errorf("OnTheRoad = %v", found)
	}
	found := p.OnTheRoad(Surroundings{Bridges: []netip.Addr{netip.MustParseAddr("10.1.2.40")}})
	if len(found) != 1 || found[0].Prefix.String() != "10.1.2.40/32" {
		t.Errorf("OnTheRoad = %v, want the scanner's", found)
	}
}

// What a balancer passes on without its client's name comes from the balancer.
func TestBalancerIsNotTrusted(t *testing.T) {
	at := problem.Pos{File: "postern.hcl", Line: 3, Column: 13}
	for _, c := range []struct{ name, trusted, proxy, acknowledge, want, warning string }{
		{"the balancer", "192.0.2.2/32", "192.0.2.2/32", "", "postern.hcl:3:13: trusted_client 192.0.2.2/32 is a balancer of listener \"mx\", 192.0.2.2/32 in postern.hcl:2:16: whoever it passes on", ""},
		{"a network that holds it", "192.0.2.0/28", "192.0.2.2/32", "", "is a balancer", ""},
		{"a network of balancers that holds it", "192.0.2.2/32", "192.0.2.0/28", "", "is a balancer", ""},
		{"its neighbour", "192.0.2.3/32", "192.0.2.2/32", "", "", ""},
		{"one that is meant", "192.0.2.2/32", "192.0.2.2/32", "192.0.2.2/32", "", "as you acknowledged"},
	} {
		source := Source{
			Hash: "test", Hostname: must(mail.ParseDomain("mx.example.org")),
			Listeners: []Listener{
				{Name: "mx", Role: MX, ProxyFrom: []Network{{Prefix: netip.MustParsePrefix(c.proxy), At: problem.Pos{File: "postern.hcl", Line: 2, Column: 16}}}},
				{Name: "trusted", Role: Trusted},
			},
			Trusted: []TrustedClient{{Name: "app", Networks: []Network{{Prefix: netip.MustParsePrefix(c.trusted), At: at}}, At: at}},
		}
		if c.acknowledge != "" {
			source.Trusted[0].Acknowledged = []netip.Prefix{netip.MustParsePrefix(c.acknowledge)}
		}
		_, err := Compile(source)
		fatal, warnings := problem.Split(err)
		if c.want == "" && fatal != nil || c.want != "" && (fatal == nil || !strings.Contains(fatal.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, fatal, c.want)
		}
		if c.warning != "" && (warnings == nil || !strings.Contains(warnings.Error(), c.warning)) {
			t.Errorf("%s: warnings %v, want %q", c.name, warnings, c.warning)
		}
	}
}
