package peers

import (
	"slices"
	"strings"

	"postern/door"
	"postern/verdict"
)

// A Passage is a case that is no mail server, and leads strangers on to one: a proxy, or a port
// that is passed on. Its fields of Case are as those of a mail server.
type Passage struct {
	Case
	Door      door.Door    // at which it is judged
	Port      string       // at which it listens
	Kind      verdict.Kind // of an open one, by which way mail leaves
	Egress    string       // of an open one, the address from which its mail comes
	Lost      bool         // of an open one, the server behind it does not see its clients' addresses
	Elsewhere bool         // of a closed one, it leads strangers to ports that are none of mail
	Why       string       // words of the reason that the auditor must give
	Software  string       // what the auditor must take it for; "": it does not say

	Both bool // the collector has an IPv6 address too

	Ask   Ask // how a stranger asks it, by hand
	Owner Ask // of a closed one, what it does all the same: without it, it may just be broken
}

// An Ask is one way to be led to a port of the tester's.
type Ask struct {
	How  string // socks5, connect, post; empty at a forwarded port, where nobody asks
	User string // whom it names, with Password
	Port string
	Six  bool // to the tester's IPv6 address
	TLS  bool // inside TLS
}

func (a Ask) inTLS() Ask {
	a.TLS = true
	return a
}

// How a stranger asks, and what a closed proxy still does.
var (
	socks25   = Ask{How: "socks5", Port: "25"}
	socks443  = Ask{How: "socks5", Port: "443"}
	tunnel25  = Ask{How: "connect", Port: "25"}
	tunnel443 = Ask{How: "connect", Port: "443"}
	post25    = Ask{How: "post", Port: "25"}
)

// Passages is every proxy and forwarder that there is.
var Passages = slices.Concat(socksPassages, connectPassages, tlsPassages, forwardPassages, morePassages)

// hashed is Password as files of passwords hold it.
const hashed = "$1$postern$HHD2YLp2L635FWltjkcXF/"

// daemons are the users that the packages of the proxies would make when they are installed.
const daemons = `proxy:x:13:13:proxy:/bin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
tinyproxy:x:110:110::/run/tinyproxy:/bin/false
haproxy:x:111:111::/var/lib/haproxy:/bin/false
privoxy:x:112:112::/etc/privoxy:/bin/false
sshd:x:113:113::/run/sshd:/bin/false
`

const daemonGroups = `proxy:x:13:
www-data:x:33:
tinyproxy:x:110:
haproxy:x:111:
privoxy:x:112:
`

// proxy makes a set-up of what Debian ships, with the files that differ.
func proxy(port, start string, files map[string]string) func() setup {
	return func() setup {
		all := map[string]string{
			"etc/passwd": machine["etc/passwd"] + daemons,
			"etc/group":  machine["etc/group"] + daemonGroups,
		}
		for name, text := range files {
			all[name] = text
		}
		return setup{root: "proxies", files: all, start: strings.TrimSpace(start), ports: []string{port}}
	}
}
