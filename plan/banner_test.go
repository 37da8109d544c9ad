package plan

import (
	"net/netip"
	"testing"
)

func TestBanners(t *testing.T) {
	for _, c := range []struct {
		text string
		want Banner
		ok   bool
	}{
		{"probe.example ESMTP Postern collector n-abc [192.0.2.1]", Banner{"probe.example", "n-abc", netip.MustParseAddr("192.0.2.1")}, true},
		{"probe.example ESMTP Postern collector n-abc [2001:db8::1]", Banner{"probe.example", "n-abc", netip.MustParseAddr("2001:db8::1")}, true},
		{"probe.example ESMTP Postern collector n-abc", Banner{Domain: "probe.example", Nonce: "n-abc"}, true},
		{"mx.victim.example ESMTP Postfix", Banner{}, false},
		{"n-abc", Banner{}, false},
		{"", Banner{}, false},
	} {
		if got, ok := ParseBanner(c.text); got != c.want || ok != c.ok {
			t.Errorf("ParseBanner(%q) = %+v, %v; want %+v, %v", c.text, got, ok, c.want, c.ok)
		}
	}
}

// The law: what is read is what was written.
func FuzzBanner(f *testing.F) {
	f.Add("probe.example ESMTP Postern collector n-abc [192.0.2.1]")
	f.Add("220 n- [::ffff:192.0.2.1]")
	f.Add("a n-b [fe80::1%eth0]")
	f.Fuzz(func(t *testing.T, text string) {
		b, ok := ParseBanner(text)
		if !ok {
			return
		}
		if again, ok := ParseBanner(b.String()); !ok || again != b {
			t.Fatalf("%q is read as %+v, which is written as %q and read as %+v", text, b, b, again)
		}
	})
}
