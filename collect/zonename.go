package collect

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"postern/mail"
)

// A name of a test says in itself which address it is about, so that nothing
// has to be remembered: b-<address> lists the address as its second MX,
// t-<address> is the address. The address is in hex, 8 or 32 digits.
const (
	backupMark = "b-"
	targetMark = "t-"
	hostsLabel = "h" // under it, b-<address>.<name of the host>
)

// BackupName returns the domain in zone whose second MX is a.
func BackupName(zone mail.Domain, a netip.Addr) mail.Domain {
	return testName(backupMark, zone, a)
}

// BackupNameOf returns the domain in zone whose second MX is a and whose third
// is host, the name that the target has for itself: some servers know
// themselves by address, and some by name only. The name of the host stands in
// the domain as it is. Without a host it is BackupName.
func BackupNameOf(zone mail.Domain, a netip.Addr, host mail.Domain) mail.Domain {
	plain := BackupName(zone, a)
	if plain.IsZero() || host.IsZero() || host.IsLiteral() {
		return plain
	}
	label, _, _ := strings.Cut(plain.ASCII(), ".")
	d, err := mail.ParseDomain(label + "." + host.ASCII() + "." + hostsLabel + "." + zone.ASCII())
	if err != nil {
		return plain // no room for both
	}
	return d
}

func testName(mark string, zone mail.Domain, a netip.Addr) mail.Domain {
	a = a.Unmap().WithZone("")
	if !servable(a) || zone.IsZero() || zone.IsLiteral() {
		return mail.Domain{}
	}
	d, err := mail.ParseDomain(mark + hex.EncodeToString(a.AsSlice()) + "." + zone.ASCII())
	if err != nil {
		return mail.Domain{} // the zone's name is so long that there is no room
	}
	return d
}

// parseTestLabel reads the first label of a test's name, in any case.
func parseTestLabel(label string) (mark string, a netip.Addr, ok bool) {
	if len(label) < len(backupMark) {
		return "", netip.Addr{}, false
	}
	mark = strings.ToLower(label[:len(backupMark)])
	raw, err := hex.DecodeString(label[len(backupMark):])
	if err != nil || mark != backupMark && mark != targetMark {
		return "", netip.Addr{}, false
	}
	a, ok = netip.AddrFromSlice(raw)
	if !ok || a != a.Unmap() || !servable(a) {
		return "", netip.Addr{}, false // one name for one address
	}
	return mark, a, true
}

// servable reports whether a can be the address of one host.
func servable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// OneFamily returns the domain in the zone of a collector with those addresses
// whose mail comes to it over one family alone; zero where it has no address of
// that family.
func OneFamily(zone mail.Domain, addresses []netip.Addr, six bool) mail.Domain {
	label := fourLabel
	if six {
		label = sixLabel
	}
	if zone.IsZero() || !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.Unmap().Is6() == six }) {
		return mail.Domain{}
	}
	d, err := mail.ParseDomain(label + "." + zone.ASCII())
	if err != nil {
		return mail.Domain{} // the zone's name is so long that there is no room
	}
	return d
}
