package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		text, host string
		ports      []uint16
	}{
		{"mx.example.org", "mx.example.org", nil},
		{"mx.example.org.", "mx.example.org", nil},
		{"mx.example.org:587", "mx.example.org", []uint16{587}},
		{"smtp://mx.example.org:25/", "mx.example.org", []uint16{25}},
		{"192.0.2.1", "192.0.2.1", nil},
		{"192.0.2.1:25", "192.0.2.1", []uint16{25}},
		{"2001:db8::1", "2001:db8::1", nil},
		{"[2001:db8::1]", "2001:db8::1", nil},
		{"[2001:db8::1]:25", "2001:db8::1", []uint16{25}},
	} {
		got, err := ParseTarget(c.text)
		if err != nil || got.Host != c.host || !slices.Equal(got.Ports, c.ports) || got.Given != c.text {
			t.Errorf("ParseTarget(%q) = %+v, %v; want %s %v", c.text, got, err, c.host, c.ports)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"", "is no host"},
		{"192.0.2.0/24", "is a network"},
		{"2001:db8::/32", "is a network"},
		{"mx.example.org:0", "is no port"},
		{"mx.example.org:65536", "is no port"},
		{"mx.example.org:smtp", "is no port"},
		{"a b", "is no host"},
		{"me@example.org", "is no host"},
	} {
		if _, err := ParseTarget(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseTarget(%q): %v, want %q in it", c.text, err, c.want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"mx.example.org:25", "[2001:db8::1]:25", "192.0.2.1", "smtp://x/", "a:b:c", "[::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text)
		if err != nil {
			return
		}
		if got.Host == "" || strings.ContainsAny(got.Host, " \t/@<>") || slices.Contains(got.Ports, 0) {
			t.Fatalf("ParseTarget(%q) = %+v", text, got)
		}
		again := got.Host
		if a, err := netip.ParseAddr(got.Host); err == nil && a.Is6() {
			again = "[" + got.Host + "]"
		}
		if second, err := ParseTarget(again); err != nil || second.Host != got.Host {
			t.Fatalf("ParseTarget(%q) = %+v, its host alone %+v, %v", text, got, second, err)
		}
	})
}
