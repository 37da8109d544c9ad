package machine

import (
	"io/fs"
	"strconv"
	"strings"
)

// Ports say which ports this process may listen on.
type Ports struct {
	First      uint16 // from here on everybody may
	Capability bool   // it has CAP_NET_BIND_SERVICE: it may on all
}

// May reports whether the kernel lets this process listen on a port.
func (p Ports) May(port uint16) bool { return p.Capability || port >= p.First }

// bindService is CAP_NET_BIND_SERVICE of include/uapi/linux/capability.h.
const bindService = 10

func ports(root fs.FS) Ports {
	p := Ports{First: 1024} // the kernel's default
	if n, err := strconv.ParseUint(strings.TrimSpace(string(text(root, "proc/sys/net/ipv4/ip_unprivileged_port_start"))), 10, 16); err == nil {
		p.First = uint16(n)
	}
	for w := range fields(text(root, "proc/self/status")) {
		if len(w) == 2 && w[0] == "CapEff:" {
			set, err := strconv.ParseUint(w[1], 16, 64)
			p.Capability = err == nil && set&(1<<bindService) != 0
		}
	}
	return p
}
