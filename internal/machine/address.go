package machine

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// parseLocal reads the own IPv4 addresses out of /proc/net/fib_trie, which
// shows each as a leaf followed by "/32 host LOCAL".
func parseLocal(b []byte) []netip.Addr {
	var list []netip.Addr
	var leaf netip.Addr
	for line := range bytes.Lines(b) {
		s := strings.TrimSpace(string(line))
		if address, ok := strings.CutPrefix(s, "|-- "); ok {
			leaf, _ = netip.ParseAddr(address)
			continue
		}
		if s == "/32 host LOCAL" && leaf.Is4() && !slices.Contains(list, leaf) {
			list = append(list, leaf)
		}
	}
	return list
}

// placed finds the network of each address: the smallest at an own wire that
// holds it.
func placed(own []netip.Addr, linked []link) []Interface {
	list := make([]Interface, 0, len(own))
	for _, a := range own {
		at := Interface{Prefix: netip.PrefixFrom(a, a.BitLen())}
		if a.IsLoopback() {
			at = Interface{Name: "lo", Prefix: netip.PrefixFrom(a, 8)}
		}
		best := -1
		for _, l := range linked {
			if l.network.Contains(a) && l.network.Bits() > best {
				best = l.network.Bits()
				at = Interface{Name: l.name, Prefix: netip.PrefixFrom(a, best)}
			}
		}
		list = append(list, at)
	}
	return list
}

// parseIfInet6 reads /proc/net/if_inet6: address, index, length of the prefix,
// scope, flags, name.
func parseIfInet6(b []byte) []Interface {
	var list []Interface
	for w := range fields(b) {
		if len(w) < 6 {
			continue
		}
		a, ok := hex16(w[0])
		length, err := strconv.ParseUint(w[2], 16, 8)
		if ok && err == nil && length <= 128 {
			list = append(list, Interface{Name: w[5], Prefix: netip.PrefixFrom(a, int(length))})
		}
	}
	return list
}

func isBridge(root fs.FS, name string) bool {
	at := path.Join("sys/class/net", name, "bridge")
	return name != "" && fs.ValidPath(at) && path.Dir(path.Dir(at)) == "sys/class/net" && exists(root, at)
}

// fromKernel asks the kernel for the addresses themselves.
func fromKernel() ([]Interface, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("own addresses: %w", err)
	}
	var list []Interface
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("own addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				list = append(list, Interface{Name: i.Name, Prefix: p})
			}
		}
	}
	return list, nil
}
