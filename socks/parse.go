package socks

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"postern/forward"
)

// These read what a client sends, behind the version, to its last octet and
// no further.

func readMethods(r io.Reader) ([]Method, error) {
	n, err := octets(r, 1)
	if err != nil {
		return nil, err
	}
	b, err := octets(r, int(n[0]))
	if err != nil {
		return nil, err
	}
	offered := make([]Method, len(b))
	for i := range b {
		offered[i] = Method(b[i])
	}
	return offered, nil
}

// readLogin reads the message of RFC 1929.
func readLogin(r io.Reader) (user, password string, err error) {
	version, err := octets(r, 1)
	if err != nil {
		return "", "", err
	}
	if version[0] != 1 {
		return "", "", fmt.Errorf("%w: a login that begins with %#02x", ErrNotAsked, version[0])
	}
	if user, err = readText(r); err != nil {
		return "", "", err
	}
	password, err = readText(r)
	return user, password, err
}

func readText(r io.Reader) (string, error) {
	n, err := octets(r, 1)
	if err != nil {
		return "", err
	}
	b, err := octets(r, int(n[0]))
	return string(b), err
}

// readRequest5 reads a request of SOCKS 5. With an error and a code other than
// Succeeded the client has an answer to get.
func readRequest5(r io.Reader) (Command, forward.Address, Code, error) {
	none := forward.Address{}
	b, err := octets(r, 4)
	if err != nil {
		return 0, none, Succeeded, err
	}
	if b[0] != 5 {
		return 0, none, Succeeded, fmt.Errorf("%w: a request that begins with %#02x", ErrNotAsked, b[0])
	}
	command, name, size := Command(b[1]), false, byte(4)
	switch b[3] {
	case typeIPv4:
	case typeIPv6:
		size = 16
	case typeName:
		n, err := octets(r, 1)
		if err != nil {
			return 0, none, Succeeded, err
		}
		name, size = true, n[0]
	default:
		return 0, none, NoSuchAddressType, fmt.Errorf("%w: address type %#02x", ErrNotAsked, b[3])
	}
	if b, err = octets(r, int(size)+2); err != nil {
		return 0, none, Succeeded, err
	}
	to, err := addressOf(b, name)
	if err != nil {
		return 0, none, GeneralFailure, fmt.Errorf("%w: %w", ErrNotAsked, err)
	}
	return command, to, Succeeded, nil
}

// readRequest4 reads a request of SOCKS 4 or 4a. What is wrong with it is
// known when it was read whole: the client has an answer to get.
func readRequest4(r io.Reader) (Command, forward.Address, string, error) {
	none := forward.Address{}
	b, err := octets(r, 7)
	if err != nil {
		return 0, none, "", err
	}
	user, err := readUntilNUL(r)
	if err != nil {
		return 0, none, "", err
	}
	port, ip := binary.BigEndian.Uint16(b[1:]), netip.AddrFrom4([4]byte(b[3:]))
	if !isMarker(ip) {
		return Command(b[0]), forward.At(netip.AddrPortFrom(ip, port)), user, nil
	}
	name, err := readUntilNUL(r)
	if err != nil {
		return 0, none, "", err
	}
	to, err := forward.Named(name, port)
	if err != nil {
		return 0, none, user, fmt.Errorf("%w: %w", ErrNotAsked, err)
	}
	return Command(b[0]), to, user, nil
}

// readUntilNUL reads octet by octet: nothing says where it ends but its end.
func readUntilNUL(r io.Reader) (string, error) {
	var text [maxID]byte
	for i := range maxID + 1 {
		b, err := octets(r, 1)
		if err != nil {
			return "", err
		}
		if b[0] == 0 {
			return string(text[:i]), nil
		}
		if i < maxID {
			text[i] = b[0]
		}
	}
	return "", fmt.Errorf("%w: a user or name longer than %d octets", ErrNotAsked, maxID)
}
