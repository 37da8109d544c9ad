package policy

import (
	"net/netip"
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
