package forward

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // want "": refused
		{"mx.example:25", "mx.example:25"},
		{"MX.Example.:25", "mx.example:25"},
		{"localhost:1", "localhost:1"},
		{"_smtp.under_score.example:25", "_smtp.under_score.example:25"},
		{"192.0.2.1:65535", "192.0.2.1:65535"},
		{"[2001:DB8::1]:25", "[2001:db8::1]:25"},
		{"[::ffff:127.0.0.1]:25", "127.0.0.1:25"},
		{"xn--bcher-kva.example:25", "xn--bcher-kva.example:25"},
		// What a resolver may take for 127.0.0.1, and a list of addresses not.
		{"127.1:25", ""},
		{"2130706433:25", ""},
		{"0x7f000001:25", ""},
		{"0x7f.0.0.0x1:25", ""},
		{"0x:25", ""},
		{"127.0.0.1.:25", ""},
		{"0177.0.0.1:25", ""},
		{"[fe80::1%eth0]:25", ""},
		{"2001:db8::1:25", ""},
		{"[mx.example]:25", ""},
		{"[192.0.2.1]:25", ""},
		{"mx.example", ""},
		{"mx.example:", ""},
		{"mx.example:0", ""},
		{"mx.example:65536", ""},
		{"mx.example:+25", ""},
		{"mx.example:25 ", ""},
		{":25", ""},
		{".:25", ""},
		{"mx..example:25", ""},
		{"user@mx.example:25", ""},
		{"mx.example/x:25", ""},
		{"mx.example\r\nX: y:25", ""},
		{"mx\x00.example:25", ""},
		{"bücher.example:25", ""},
		{strings.Repeat("a", 64) + ".example:25", ""},
		{strings.Repeat("a.", 127) + "aa:25", ""},
	} {
		a, err := ParseAddress(c.text)
		if c.want == "" {
			if !errors.Is(err, ErrAddress) || !a.IsZero() {
				t.Errorf("ParseAddress(%q) = %s, %v; want it refused", c.text, a, err)
			}
			continue
		}
		if err != nil || a.String() != c.want {
			t.Errorf("ParseAddress(%q) = %s, %v; want %s", c.text, a, err, c.want)
		}
	}
}

func TestAt(t *testing.T) {
	mapped := At(netip.MustParseAddrPort("[::ffff:192.0.2.1]:25"))
	if plain := At(netip.MustParseAddrPort("192.0.2.1:25")); mapped != plain {
		t.Errorf("%s and %s are not the same", mapped, plain)
	}
	if !At(netip.AddrPort{}).IsZero() || (Address{}).String() != "none" {
		t.Error("no address is not the zero one")
	}
}

// FuzzAddress: what was read writes as what reads the same, and is in one spelling.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"mx.example:25", "[::1]:25", "192.0.2.1:1", "127.1:25", "a.:1", "0x1:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		b, err := ParseAddress(a.String())
		if err != nil || a != b {
			t.Errorf("%q reads as %s, and that as %s, %v", s, a, b, err)
		}
		if (a.Name() == "") != a.IP().IsValid() || a.IP().Is4In6() || strings.ToLower(a.Name()) != a.Name() {
			t.Errorf("%q: %s is not in one spelling", s, a)
		}
	})
}
