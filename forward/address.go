package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// An Address is where a tunnel is to lead: an IP address or a name, and a
// port. The zero Address is none. Names are in lower case and without a last
// dot, IPv4 addresses in their own form and never inside IPv6, a literal is
// never a name: so a list of destinations may compare with ==.
type Address struct {
	name string
	ip   netip.Addr
	port uint16
}

// ErrAddress is the kind of every error about an address.
var ErrAddress = errors.New("not an address")

const (
	maxName  = 253 // octets of a name in text (RFC 1035 section 3.1)
	maxLabel = 63
)

// At returns the address of a literal, none where it is not valid. Its zone
// is dropped: it means nothing on another machine.
func At(a netip.AddrPort) Address {
	if !a.IsValid() {
		return Address{}
	}
	return Address{ip: a.Addr().Unmap().WithZone(""), port: a.Port()}
}

// Named returns the address of a host, which may be a literal in its text
// form. A name that some resolvers take for an IPv4 address in odd writing
// ("127.1", "0x7f000001") is no name: it would pass every list of addresses.
func Named(name string, port uint16) (Address, error) {
	if ip, err := netip.ParseAddr(name); err == nil {
		if ip.Zone() != "" {
			return Address{}, fmt.Errorf("%w: %.80q has a zone", ErrAddress, name)
		}
		return At(netip.AddrPortFrom(ip, port)), nil
	}
	short := strings.ToLower(strings.TrimSuffix(name, "."))
	if !validName(short) {
		return Address{}, fmt.Errorf("%w: %.80q is neither a host name nor an IP address", ErrAddress, name)
	}
	return Address{name: short, port: port}, nil
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
		last = label
	}
	return !isNumber(last)
}

// isNumber reports whether inet_aton would read the label as a number.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// ParseAddress reads "host:port", where an IPv6 address stands in brackets.
func ParseAddress(s string) (Address, error) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %.80q is not host:port", ErrAddress, s)
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || digits[0] == '+' {
		return Address{}, fmt.Errorf("%w: %.80q has no port from 1 to 65535", ErrAddress, s)
	}
	if strings.HasPrefix(s, "[") != strings.Contains(host, ":") {
		return Address{}, fmt.Errorf("%w: %.80q: brackets hold an IPv6 address, and it needs them", ErrAddress, s)
	}
	return Named(host, uint16(port))
}

// IP returns the address of a literal; it is not valid for a name.
func (a Address) IP() netip.Addr { return a.ip }

// Name returns the name, "" for a literal.
func (a Address) Name() string { return a.name }

// Port returns the port.
func (a Address) Port() uint16 { return a.port }

// IsZero reports whether a is none.
func (a Address) IsZero() bool { return a == Address{} }

// Host returns the name, or the literal without brackets.
func (a Address) Host() string {
	if a.name == "" && a.ip.IsValid() {
		return a.ip.String()
	}
	return a.name
}

// String returns host:port as ParseAddress reads it, "none" for none.
func (a Address) String() string {
	if a.IsZero() {
		return "none"
	}
	return net.JoinHostPort(a.Host(), strconv.Itoa(int(a.port)))
}
