package resolve

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// add takes what is of use from one record. A host that is no host name, as
// anybody may write into a PTR record of theirs, is left out.
func (r *records) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.MX:
		if host, ok := hostName(rr.Mx); ok {
			r.mx = append(r.mx, MX{Preference: rr.Preference, Host: host})
		} else if rr.Mx == "." {
			r.mx = append(r.mx, MX{Preference: rr.Preference})
		}
	case *dns.A:
		if a, ok := netip.AddrFromSlice(rr.A); ok {
			r.addrs = append(r.addrs, a.Unmap())
		}
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
			r.addrs = append(r.addrs, a)
		}
	case *dns.PTR:
		if host, ok := hostName(rr.Ptr); ok {
			r.texts = append(r.texts, host)
		}
	case *dns.TXT:
		r.texts = append(r.texts, strings.Join(rr.Txt, ""))
	}
}

func (r *records) empty() bool { return len(r.mx) == 0 && len(r.addrs) == 0 && len(r.texts) == 0 }

func hostName(s string) (string, bool) {
	s = dns.CanonicalName(s)
	return strings.TrimSuffix(s, "."), isName(s)
}
