package socks

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/forward"
)

// A Request is what a client wants. Version 4 with a name as destination is
// SOCKS 4a.
type Request struct {
	Version  int // 4 or 5
	Command  Command
	To       forward.Address
	User     string   // of SOCKS 4: the user id, which proves nothing
	Password string   // SOCKS 5 only
	Methods  []Method // SOCKS 5: which are offered; none: NoAuth, and UserPassword if there is a user
}

const (
	maxText = 255 // octets of a name, user, password: each has one octet for its length
	maxID   = 255 // octets of a user id or a name in SOCKS 4: nothing says how long it may be
)

// Address types (RFC 1928 section 5).
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// check finds what cannot be written.
func (r Request) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
	}
	switch {
	case r.Version != 4 && r.Version != 5:
		return fail("version %d; there are 4 and 5", r.Version)
	case r.Command < Connect || r.Command > UDPAssociate || r.Version == 4 && r.Command == UDPAssociate:
		return fail("%s in version %d", r.Command, r.Version)
	case r.To.IsZero():
		return fail("no destination")
	case len(r.User) > maxText || len(r.Password) > maxText:
		return fail("user or password longer than %d octets", maxText)
	}
	if r.Version == 4 {
		switch {
		case r.To.IP().Is6():
			return fail("IPv6 in version 4")
		case isMarker(r.To.IP()):
			return fail("%s in version 4, where it means that a name follows", r.To.IP())
		case strings.ContainsRune(r.User, 0):
			return fail("a user id with a NUL")
		case r.Password != "" || len(r.Methods) > 0:
			return fail("passwords and methods in version 4")
		}
		return nil
	}
	switch {
	case len(r.Methods) > maxText:
		return fail("more than %d methods", maxText)
	case slices.Contains(r.Methods, NoMethod):
		return fail("method 0xff is an answer and no offer")
	case r.Password != "" && r.User == "":
		return fail("a password without a user")
	}
	return nil
}

// isMarker reports whether ip is 0.0.0.x with x other than 0, by which SOCKS
// 4a says that a name follows.
func isMarker(ip netip.Addr) bool {
	if !ip.Is4() {
		return false
	}
	b := ip.As4()
	return b[0] == 0 && b[1] == 0 && b[2] == 0 && b[3] != 0
}

func (r Request) offered() []Method {
	switch {
	case len(r.Methods) > 0:
		return r.Methods
	case r.User != "":
		return []Method{NoAuth, UserPassword}
	}
	return []Method{NoAuth}
}

// greeting is the first message of SOCKS 5.
func (r Request) greeting() []byte {
	offered := r.offered()
	b := []byte{5, byte(len(offered))}
	for _, m := range offered {
		b = append(b, byte(m))
	}
	return b
}

// login is the message of RFC 1929.
func (r Request) login() []byte {
	b := append([]byte{1, byte(len(r.User))}, r.User...)
	return append(append(b, byte(len(r.Password))), r.Password...)
}

// request5 is the request of SOCKS 5.
func (r Request) request5() []byte { return appendAddress([]byte{5, byte(r.Command), 0}, r.To) }

func appendAddress(b []byte, a forward.Address) []byte {
	switch ip := a.IP(); {
	case a.Name() != "":
		b = append(append(b, typeName, byte(len(a.Name()))), a.Name()...)
	case ip.Is6():
		b = append(append(b, typeIPv6), ip.AsSlice()...)
	case ip.Is4():
		b = append(append(b, typeIPv4), ip.AsSlice()...)
	default: // none: RFC 1928 has no word for it, and servers send this
		b = append(b, typeIPv4, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// request4 is the request of SOCKS 4 and 4a, in two parts so that the user id
// can stay out of a transcript.
func (r Request) request4() (head, tail []byte) {
	head = binary.BigEndian.AppendUint16([]byte{4, byte(r.Command)}, r.To.Port())
	if r.To.Name() == "" {
		return append(head, r.To.IP().AsSlice()...), []byte{0}
	}
	return append(head, 0, 0, 0, 1), append(append([]byte{0}, r.To.Name()...), 0)
}
