package policy

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestInside(t *testing.T) {
	own := func(a netip.Addr) bool { return a.String() == "203.0.113.1" }
	for _, c := range []struct{ addr, why string }{
		{"198.51.100.7", ""},
		{"8.8.8.8", ""},
		{"2606:4700::1111", ""},
		{"127.0.0.1", "an address of this machine itself"},
		{"127.8.9.1", "an address of this machine itself"},
		{"::1", "an address of this machine itself"},
		{"::ffff:127.0.0.1", "an address of this machine itself"},
		{"0.0.0.0", "an address of no host"},
		{"0.1.2.3", "an address of no host"},
		{"::", "an address of no host"},
		{"10.0.0.1", "a private address"},
		{"172.16.0.1", "a private address"},
		{"192.168.255.255", "a private address"},
		{"100.64.0.1", "a private address"},
		{"fd00::1", "a private address"},
		{"::ffff:10.0.0.1", "a private address"},
		{"64:ff9b::a00:1", "a private address"},
		{"64:ff9b::7f00:1", "an address of this machine itself"},
		{"64:ff9b:1::a00:1", "a private address"},
		{"64:ff9b:1:2:3:4:c633:6407", ""},
		{"64:ff9b:1:a00:0:100::", "an address of no host"},
		{"64:ff9b:1:0:a:0:100:0", "an address of no host"},
		{"2002:7f00:1::1", "an address of this machine itself"},
		{"2002:c633:6407::1", ""},
		{"169.254.169.254", "an address of the local link"},
		{"fe80::1%eth0", "an address of the local link"},
		{"224.0.0.1", "an address of the local link"},
		{"239.1.2.3", "an address of many hosts"},
		{"ff0e::1", "an address of many hosts"},
		{"240.0.0.1", "a reserved address"},
		{"255.255.255.255", "a reserved address"},
		{"fec0::1", "a reserved address"},
		{"168.63.129.16", "an address at which a cloud talks to its machines"},
		{"192.0.0.192", "an address of the protocols' own"},
		{"192.0.0.170", "an address of the protocols' own"},
		{"192.88.99.1", "an address of relays to 6to4"},
		{"192.175.48.6", ""},
		{"198.18.0.1", "a private address"},
		{"198.19.255.255", "a private address"},
		{"198.20.0.1", ""},
		{"100.100.100.200", "a private address"},
		{"fd00:ec2::254", "a private address"},
		{"fd20:ce::254", "a private address"},
		{"64:ff9b::a83f:8110", "an address at which a cloud talks to its machines"},
		{"2002:a83f:8110::1", "an address at which a cloud talks to its machines"},
		{"2001:0:cb00:7101::1", "an address behind a tunnel that anybody can make"},
		{"2001:20::1", "an address of the protocols' own"},
		{"2001:1ff:ffff::1", "an address of the protocols' own"},
		{"2001:200::1", ""},
		{"100::1", "an address where all is thrown away"},
		{"100:0:0:1::1", "an address of no host"},
		{"3fff:fff::1", "an address of no host"},
		{"5f00::1", "an address inside a provider's network"},
		{"4000::1", "a reserved address"},
		{"200::1", "a reserved address"},
		{"::c633:6407", "a reserved address"},
		{"::a00:1", "a private address"},
		{"::ffff:0:a00:1", "a private address"},
		{"::ffff:0:808:808", "a reserved address"},
		{"2606:4700::5efe:10.0.0.1", "a private address"},
		{"2606:4700::200:5efe:127.0.0.1", "an address of this machine itself"},
		{"2606:4700::200:5efe:8.8.8.8", ""},
		{"fe80::5efe:8.8.8.8", "an address of the local link"},
		{"ff12::1", "an address of many hosts"},
		{"203.0.113.1", "an address of this machine"},
		{"::ffff:203.0.113.1", "an address of this machine"},
		{"64:ff9b::cb00:7101", "an address of this machine"},
	} {
		if got := Inside(netip.MustParseAddr(c.addr), own); got != c.why {
			t.Errorf("Inside(%s) = %q, want %q", c.addr, got, c.why)
		}
	}
	if Inside(netip.Addr{}, nil) == "" {
		t.Error("no address at all is allowed")
	}
}

// No network that the registries do not call globally reachable is outside,
// but for the documentation's (decision 27) and 6to4, where the IPv4 address
// that it leads to decides.
func TestRegistries(t *testing.T) {
	text, err := os.ReadFile("testdata/iana-special-purpose.tsv")
	if err != nil {
		t.Fatal(err)
	}
	exempt := map[string]bool{"192.0.2.0/24": true, "198.51.100.0/24": true, "203.0.113.0/24": true, "2001:db8::/32": true, "2002::/16": true}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		rows++
		network := netip.MustParsePrefix(cells[0])
		first, end := network.Addr(), last(network)
		switch {
		case cells[3] == "True" || exempt[cells[0]]:
		case Inside(first, nil) == "" || Inside(end, nil) == "":
			t.Errorf("%s, %s: %q to %q; want both inside", cells[0], cells[1], Inside(first, nil), Inside(end, nil))
		case neverClient(network) == "" && !within(loopback, network) && !within(private, network):
			t.Errorf("%s, %s, may be trusted", cells[0], cells[1])
		}
	}
	if rows < 50 {
		t.Errorf("%d rows were read", rows)
	}
}

func TestTableOfSpecialNetworksIsStrict(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"a cell too few", "10.0.0.0/8\t-\t-\t-", "4 cells"},
		{"no source", "10.0.0.0/8\t-\t-\t-\t", "want network"},
		{"no network", "10.0.0.0\t-\t-\t-\tx", "is no network"},
		{"bits behind the mask", "10.0.0.1/8\t-\t-\t-\tx", "is no network"},
		{"an IPv4 address that leads to one", "10.0.0.0/8\t-\t-\t2\tx", "is no octet"},
		{"beyond the address", "2002::/16\t-\t-\t13\tx", "is no octet"},
		{"twice", "10.0.0.0/8\t-\t-\t-\tx\n10.0.0.0/8\t-\t-\t-\ty", "stands twice"},
	} {
		if _, err := parseSpecials("t", c.line); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
	for _, a := range []string{"0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		if !specialOf(netip.MustParseAddr(a)).network.IsValid() {
			t.Errorf("no line speaks for %s", a)
		}
	}
}

func FuzzInside(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "::1", "64:ff9b::a00:1", "198.51.100.7"} {
		f.Add(netip.MustParseAddr(s).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		// An address means the same in each of its forms.
		if a.Is4() {
			mapped := netip.AddrFrom16(a.As16())
			translated := a.As4()
			nat := netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: translated[0], 13: translated[1], 14: translated[2], 15: translated[3]})
			if Inside(a, nil) != Inside(mapped, nil) || Inside(a, nil) != Inside(nat, nil) {
				t.Errorf("%s: %q, mapped %q, translated %q", a, Inside(a, nil), Inside(mapped, nil), Inside(nat, nil))
			}
		}
		if (a.Unmap().IsPrivate() || a.Unmap().IsLoopback()) && Inside(a, nil) == "" {
			t.Errorf("%s is allowed", a)
		}
	})
}
