package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"postern/mail"
	"postern/verdict"
)

// The PROXY protocol puts one header before all else; a server that believes
// it from anybody lets everybody choose the address that its rules see.

// greetProxyV1 claims the address of the move's argument, or 127.0.0.1.
func greetProxyV1(s SMTP, p Play) (greeting, error) {
	source, err := claimedSource(p.Envelope.MoveArg)
	if err != nil {
		return greeting{}, err
	}
	return greeting{claims: true, prefix: proxyV1(source, s.Addr), hello: "EHLO", name: s.Helo}, nil
}

// greetProxyV2 does the same in binary; the argument "local" sends the command
// LOCAL, which says that the balancer itself is the client.
func greetProxyV2(s SMTP, p Play) (greeting, error) {
	if p.Envelope.MoveArg == "local" {
		return greeting{claims: true, prefix: append([]byte(proxyV2Signature), 0x20, 0, 0, 0), hello: "EHLO", name: s.Helo}, nil
	}
	source, err := claimedSource(p.Envelope.MoveArg)
	if err != nil {
		return greeting{}, err
	}
	return greeting{claims: true, prefix: proxyV2(source, s.Addr), hello: "EHLO", name: s.Helo}, nil
}

// proxyTaken finds out whether the server read the header as one. A server
// that did not reads it as commands, so that its answer to the header is what
// stands where the answer to EHLO should.
func proxyTaken(_ context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	if v.Session.Hello.Positive() {
		return "", mail.Reply{}, nil
	}
	return verdict.AtMove, v.Session.Hello, fmt.Errorf("%w: the server reads no PROXY header", errNotOffered)
}

const claimedPort = 4444

func claimedSource(arg string) (netip.AddrPort, error) {
	if arg == "" {
		arg = "127.0.0.1"
	}
	a, err := netip.ParseAddr(arg)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("PROXY header: %w", err)
	}
	return netip.AddrPortFrom(a, claimedPort), nil
}

// sameFamily returns dst in the family of src, since a header names one
// family only; what stands there as our destination is of no weight.
func sameFamily(src, dst netip.AddrPort) netip.AddrPort {
	switch {
	case src.Addr().Is4() == dst.Addr().Is4():
		return dst
	case src.Addr().Is4():
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), dst.Port())
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port())
	}
}

func proxyV1(src, dst netip.AddrPort) []byte {
	dst = sameFamily(src, dst)
	family := "TCP6"
	if src.Addr().Is4() {
		family = "TCP4"
	}
	return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, src.Addr(), dst.Addr(), src.Port(), dst.Port())
}

// proxyV2Signature is no SMTP: a server that does not know it sees empty
// lines, a NUL and QUIT.
const proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"

func proxyV2(src, dst netip.AddrPort) []byte {
	dst = sameFamily(src, dst)
	family := byte(0x21) // TCP over IPv6
	if src.Addr().Is4() {
		family = 0x11
	}
	addresses := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
	addresses = binary.BigEndian.AppendUint16(addresses, src.Port())
	addresses = binary.BigEndian.AppendUint16(addresses, dst.Port())
	header := append([]byte(proxyV2Signature), 0x21, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(addresses)))
	return append(header, addresses...)
}
