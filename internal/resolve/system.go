package resolve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"postern/internal/plaintext"
)

// System makes a Resolver as the machine's own files say: /etc/resolv.conf
// names the servers, /etc/hosts the names that are not asked for. They are
// read once.
func System() (*Resolver, error) { return fromFiles("/etc/resolv.conf", "/etc/hosts") }

// At makes a Resolver that asks one server, and knows /etc/hosts.
func At(server netip.AddrPort) (*Resolver, error) {
	o := Options{Servers: []netip.AddrPort{server}}
	var err error
	if o.Hosts, err = hostsFile("/etc/hosts"); err != nil {
		return nil, err
	}
	return New(o)
}

func fromFiles(resolvConf, hosts string) (*Resolver, error) {
	var o Options
	c, err := dns.ClientConfigFromFile(resolvConf)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c = &dns.ClientConfig{Port: "53"}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", resolvConf, err)
	default:
		o.Timeout, o.Rounds = min(time.Duration(c.Timeout)*time.Second, 5*time.Second), max(c.Attempts, 1)
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1"} // resolv.conf(5): the server of this machine
	}
	for _, s := range c.Servers {
		a, err := netip.ParseAddrPort(net.JoinHostPort(s, c.Port))
		if err != nil {
			return nil, fmt.Errorf("%s: nameserver %q is no address; name another with --resolver", resolvConf, s)
		}
		o.Servers = append(o.Servers, a)
	}
	if o.Hosts, err = hostsFile(hosts); err != nil {
		return nil, err
	}
	return New(o)
}

// maxHosts bounds what a hosts file may bring; lists that block advertisers
// reach hundreds of thousands of lines and are of no use here.
const maxHosts = 10000

func hostsFile(path string) (map[string][]netip.Addr, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readHosts(f)
}

// readHosts reads the format of hosts(5). Lines that are none are passed over,
// as every other reader of the file does.
func readHosts(r io.Reader) (map[string][]netip.Addr, error) {
	hosts := map[string][]netip.Addr{}
	in := plaintext.Scanner(r)
	for in.Scan() && len(hosts) < maxHosts {
		line, _, _ := strings.Cut(in.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		if err != nil {
			continue
		}
		for _, name := range words[1:] {
			name = strings.TrimSuffix(strings.ToLower(name), ".")
			if !slices.Contains(hosts[name], a) {
				hosts[name] = append(hosts[name], a)
			}
		}
	}
	return hosts, in.Err()
}
