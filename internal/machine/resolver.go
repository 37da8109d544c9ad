package machine

import (
	"io/fs"
	"net/netip"
	"slices"
)

// maxResolvers bounds the list; the C library reads three.
const maxResolvers = 16

// resolvers returns the nameservers of resolv.conf. Where that is the stub of
// systemd-resolved, those that it asks are added: they are who is seen outside.
func resolvers(root fs.FS) []netip.Addr {
	list := parseResolvConf(text(root, "etc/resolv.conf"))
	if slices.Contains(list, netip.AddrFrom4([4]byte{127, 0, 0, 53})) {
		for _, a := range parseResolvConf(text(root, "run/systemd/resolve/resolv.conf")) {
			if !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}

func parseResolvConf(b []byte) []netip.Addr {
	var list []netip.Addr
	for w := range fields(b) {
		if len(w) < 2 || w[0] != "nameserver" || len(list) == maxResolvers {
			continue
		}
		if a, err := netip.ParseAddr(w[1]); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}
