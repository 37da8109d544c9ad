package collect

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"postern/mail"
)

// TTLs of the zone, in seconds. They are short because a collector moves, and
// nobody asks twice for a test.
const (
	zoneTTL     = 300
	zoneNegTTL  = 60
	maxTXT      = 255 // RFC 1035 section 3.3.14: of one string
	soaRefresh  = 3600
	soaRetry    = 600
	soaExpire   = 604800
	hostLabel   = "mx"
	serverLabel = "ns"
	fourLabel   = "v4"
	sixLabel    = "v6"
)

// A Zone is the collector's own domain in the DNS: where its mail goes, and the
// names of tests. All answers are computed from the question. Its fields must
// not change once it runs.
type Zone struct {
	Name      mail.Domain  // the zone
	Domain    mail.Domain  // the collector's domain; served when it is within the zone
	Addresses []netip.Addr // of the collector, and of this server
	Contact   string       // in a TXT record, so that who finds a test knows whom to ask

	// Inside are networks of the operator's own. The name of a test points at an
	// address that no stranger can have, such as 127.0.0.1 or 10.0.0.1, only when
	// it is in one of them, or when this process tests that address now: else the
	// zone would help web pages to reach the machines behind a browser (DNS
	// rebinding).
	Inside []netip.Prefix

	tested tested

	// Serial of the SOA record; 0 is as good as any, there are no transfers.
	Serial uint32
}

// NewZone makes a zone of a collector that has the given addresses.
func NewZone(name, domain mail.Domain, addresses []netip.Addr, contact string) (*Zone, error) {
	switch {
	case name.IsZero() || name.IsLiteral():
		return nil, errors.New("the zone has no name; name one that is delegated to us: --zone NAME")
	case len(addresses) == 0:
		return nil, fmt.Errorf("the zone %s needs the address of the collector; name it: --address ADDR", name)
	case len(contact) > maxTXT:
		return nil, fmt.Errorf("the contact has %d octets; a TXT record takes %d", len(contact), maxTXT)
	}
	for _, a := range addresses {
		if !servable(a.Unmap()) {
			return nil, fmt.Errorf("%s is the address of no host; name the one at which relays reach the collector: --address ADDR", a)
		}
	}
	if BackupName(name, netip.IPv6Loopback()).IsZero() {
		return nil, fmt.Errorf("the name of the zone %s leaves no room for the names of tests", name)
	}
	return &Zone{Name: name, Domain: domain, Addresses: addresses, Contact: contact}, nil
}

// BackupName returns the domain in the zone whose second MX is a, which is
// tested now.
func (z *Zone) BackupName(a netip.Addr) mail.Domain { return z.BackupNameOf(a, mail.Domain{}) }

// Host is the name of the collector's host in the zone.
func (z *Zone) Host() string { return hostLabel + "." + z.Name.ASCII() }

// answer computes the answer to a question of class IN within the zone: the
// records, and whether the name exists.
func (z *Zone) answer(name string, kind uint16) (records []dns.RR, exists bool) {
	apex := dns.CanonicalName(z.Name.ASCII())
	domain := dns.CanonicalName(z.Domain.ASCII())
	key := dns.CanonicalName(name)
	switch {
	case key == apex:
		records = append(z.mail(name, kind), z.authority(name, kind)...)
	case key == domain && !z.Domain.IsZero():
		records = z.mail(name, kind)
	case key == fourLabel+"."+apex, key == hostLabel+fourLabel+"."+apex:
		records = z.oneFamily(name, kind, key, false)
	case key == sixLabel+"."+apex, key == hostLabel+sixLabel+"."+apex:
		records = z.oneFamily(name, kind, key, true)
	case key == hostLabel+"."+apex, key == serverLabel+"."+apex:
		records = z.addresses(name, kind)
	case strings.HasSuffix("."+domain, "."+key):
		// between the apex and the domain: it exists and has nothing (RFC 8020)
	case strings.HasSuffix("."+key, "."+hostsLabel+"."+apex):
		records = z.hostTest(name, kind, strings.TrimSuffix(key, "."+hostsLabel+"."+apex))
	default:
		label, parent, _ := strings.Cut(key, ".")
		mark, a, ok := parseTestLabel(label)
		if !ok || parent != apex || !z.pointsAt(a) {
			return nil, false
		}
		records = z.test(name, kind, mark, a)
	}
	if kind == dns.TypeANY { // RFC 8482 section 4.2
		records = []dns.RR{&dns.HINFO{Hdr: header(name, dns.TypeHINFO), Cpu: "RFC8482"}}
	}
	return records, true
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: zoneTTL}
}

func (z *Zone) authority(name string, kind uint16) []dns.RR {
	switch kind {
	case dns.TypeSOA:
		return []dns.RR{z.soa()}
	case dns.TypeNS:
		return []dns.RR{&dns.NS{Hdr: header(name, kind), Ns: serverLabel + "." + dns.CanonicalName(z.Name.ASCII())}}
	}
	return nil
}

func (z *Zone) soa() *dns.SOA {
	apex := dns.CanonicalName(z.Name.ASCII())
	h := header(apex, dns.TypeSOA)
	h.Ttl = zoneNegTTL // RFC 2308 section 5: how long "no" holds is the lesser of the two
	return &dns.SOA{
		Hdr: h, Ns: serverLabel + "." + apex, Mbox: "postmaster." + apex, Serial: z.Serial,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: zoneNegTTL,
	}
}

// mail is what a domain has whose mail the collector takes.
func (z *Zone) mail(name string, kind uint16) []dns.RR {
	switch kind {
	case dns.TypeMX:
		return []dns.RR{&dns.MX{Hdr: header(name, kind), Preference: 10, Mx: dns.CanonicalName(z.Host())}}
	case dns.TypeTXT:
		// Probes come from wherever a check runs, so SPF can say neither yes nor no.
		list := []dns.RR{&dns.TXT{Hdr: header(name, kind), Txt: []string{"v=spf1 ?all"}}}
		if z.Contact != "" {
			list = append(list, &dns.TXT{Hdr: header(name, kind), Txt: []string{z.Contact}})
		}
		return list
	}
	return z.addresses(name, kind)
}

func (z *Zone) addresses(name string, kind uint16) []dns.RR {
	var list []dns.RR
	for _, a := range z.Addresses {
		list = append(list, addressRecord(name, kind, a)...)
	}
	return list
}

// oneFamily is what v4 and v6 have, domains whose mail comes to the collector
// over one family alone, and what the hosts have to which it goes.
func (z *Zone) oneFamily(name string, kind uint16, key string, six bool) []dns.RR {
	if kind == dns.TypeMX && !strings.HasPrefix(key, hostLabel) && !z.OneFamily(six).IsZero() {
		return []dns.RR{&dns.MX{Hdr: header(name, kind), Preference: 10, Mx: hostLabel + key}}
	}
	var list []dns.RR
	for _, a := range z.Addresses {
		if a.Unmap().Is6() == six {
			list = append(list, addressRecord(name, kind, a)...)
		}
	}
	return list
}

// OneFamily returns the domain in the zone whose mail comes to the collector
// over IPv6 alone, or over IPv4 alone; zero where it has no address of that
// family.
func (z *Zone) OneFamily(six bool) mail.Domain { return OneFamily(z.Name, z.Addresses, six) }

func addressRecord(name string, kind uint16, a netip.Addr) []dns.RR {
	a = a.Unmap()
	switch {
	case kind == dns.TypeA && a.Is4():
		return []dns.RR{&dns.A{Hdr: header(name, kind), A: a.AsSlice()}}
	case kind == dns.TypeAAAA && a.Is6():
		return []dns.RR{&dns.AAAA{Hdr: header(name, kind), AAAA: a.AsSlice()}}
	}
	return nil
}

// hostTest is what b-<address>.<host> has: the test of the address, and the
// host as a third MX. All other names under the hosts' label exist and have
// nothing, since names of tests may stand below each (RFC 8020).
func (z *Zone) hostTest(name string, kind uint16, rest string) []dns.RR {
	label, host, _ := strings.Cut(rest, ".")
	mark, a, ok := parseTestLabel(label)
	if !ok || mark != backupMark || host == "" || !z.pointsAt(a) || kind != dns.TypeMX {
		return nil
	}
	return append(z.test(name, kind, mark, a), &dns.MX{Hdr: header(name, kind), Preference: 30, Mx: dns.CanonicalName(host)})
}

// BackupNameOf returns the domain in the zone whose further MXs are a, which is
// tested now, and host.
func (z *Zone) BackupNameOf(a netip.Addr, host mail.Domain) mail.Domain {
	z.tested.add(a.Unmap().WithZone(""), time.Now())
	return BackupNameOf(z.Name, a, host)
}

// test is what the name of a test has.
func (z *Zone) test(name string, kind uint16, mark string, a netip.Addr) []dns.RR {
	if mark == targetMark {
		return addressRecord(name, kind, a)
	}
	if kind != dns.TypeMX {
		return nil
	}
	return []dns.RR{
		&dns.MX{Hdr: header(name, kind), Preference: 10, Mx: dns.CanonicalName(z.Host())},
		&dns.MX{Hdr: header(name, kind), Preference: 20, Mx: dns.CanonicalName(testName(targetMark, z.Name, a).ASCII())},
	}
}
