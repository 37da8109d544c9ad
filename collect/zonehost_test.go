package collect

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"postern/mail"
)

// A server that knows itself by name only finds that name among the MXs.
func TestBackupNameOfHost(t *testing.T) {
	parse := func(s string) mail.Domain {
		d, err := mail.ParseDomain(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	z, err := NewZone(parse("probe.example"), parse("probe.example"), []netip.Addr{netip.MustParseAddr("192.0.2.66")}, "")
	if err != nil {
		t.Fatal(err)
	}
	name := z.BackupNameOf(netip.MustParseAddr("203.0.113.10"), parse("MX.victim.example"))
	if got, want := name.String(), "b-cb00710a.mx.victim.example.h.probe.example"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	records, exists := z.answer(name.String()+".", dns.TypeMX)
	var hosts []string
	for _, r := range records {
		if mx, ok := r.(*dns.MX); ok {
			hosts = append(hosts, mx.Mx)
		}
	}
	if got, want := strings.Join(hosts, " "), "mx.probe.example. t-cb00710a.probe.example. mx.victim.example."; !exists || got != want {
		t.Errorf("MX %s, want %s", got, want)
	}
	for _, c := range []struct {
		name string
		kind uint16
	}{
		{"h.probe.example.", dns.TypeMX},
		{"victim.example.h.probe.example.", dns.TypeA},
		{name.String() + ".", dns.TypeA},
		{"b-zz.mx.victim.example.h.probe.example.", dns.TypeMX},
		{"b-cb00710a.h.probe.example.", dns.TypeMX},
	} {
		if records, exists := z.answer(c.name, c.kind); !exists || len(records) > 0 {
			t.Errorf("%s: exists %v, records %v; want a name without records", c.name, exists, records)
		}
	}
	long := parse(strings.Repeat("a-long-label.", 17) + "example")
	if got := z.BackupNameOf(netip.MustParseAddr("203.0.113.10"), long); got != z.BackupName(netip.MustParseAddr("203.0.113.10")) {
		t.Errorf("a host without room: %s", got)
	}
}
