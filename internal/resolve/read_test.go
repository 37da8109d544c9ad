package resolve

import (
	"testing"

	"github.com/miekg/dns"
)

// A reply is whatever a server, or somebody in its place, sends.
func FuzzRead(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("mail.example.", dns.TypeA)
	for _, text := range []string{"mail.example. 300 CNAME a.example.", "a.example. 60 A 192.0.2.1", "mail.example. 60 MX 10 ."} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	seed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, dns.TypeA)
	f.Add(seed, dns.TypeMX)
	f.Fuzz(func(t *testing.T, raw []byte, kind uint16) {
		m := new(dns.Msg)
		if m.Unpack(raw) != nil {
			return
		}
		found, next := read(m, "mail.example.", kind)
		switch {
		case found.ttl < 0 || found.ttl > maxTTL:
			t.Fatalf("a TTL of %v", found.ttl)
		case next != "" && !isName(next):
			t.Fatalf("the next name is %q", next)
		case next == "" && (found.err == nil) == found.records.empty():
			t.Fatalf("records %+v with error %v", found.records, found.err)
		}
		for _, x := range found.records.mx {
			if x.Host != "" && !isName(x.Host+".") {
				t.Fatalf("an MX of %q", x.Host)
			}
		}
	})
}
