package plan

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Target is what a person asked to have tested.
type Target struct {
	Given string   // as given
	Host  string   // name or address, without brackets
	Ports []uint16 // to test; none: the usual ports
}

// ParseTarget reads a name, an address, name:port, address:port,
// [address]:port, or smtp://name:port.
func ParseTarget(s string) (Target, error) {
	t := Target{Given: s}
	text := strings.TrimSuffix(strings.TrimPrefix(s, "smtp://"), "/")
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		t.Host = a.String()
		return t, nil
	}
	if strings.Contains(text, "/") {
		return Target{}, fmt.Errorf("%q is a network; name each host, with proof that it is yours", s)
	}
	host, port, ok := cutPort(text)
	if ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Target{}, fmt.Errorf("%q: %q is no port; a port is a number from 1 to 65535", s, port)
		}
		t.Ports = []uint16{uint16(n)}
	}
	t.Host = strings.TrimSuffix(host, ".")
	if inner, ok := strings.CutPrefix(host, "["); ok {
		t.Host = strings.TrimSuffix(inner, "]")
	}
	if a, err := netip.ParseAddr(t.Host); err == nil {
		t.Host = a.String()
		return t, nil
	}
	if t.Host == "" || strings.ContainsAny(t.Host, " \t\r\n@:<>[]") || strings.HasSuffix(t.Host, ".") {
		return Target{}, fmt.Errorf("%q is no host; give a name, an address, or either with :port", s)
	}
	return t, nil
}

func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
