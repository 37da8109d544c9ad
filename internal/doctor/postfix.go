package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

const (
	usualPostfix = "/etc/postfix"
	mainCF       = 0 // the numbers of these two among the files that were read
	masterCF     = 1
)

// A postfixConfig is main.cf and master.cf, read but not yet expanded.
type postfixConfig struct {
	Foreign
	hostname string
	own      []ownNetwork
	dir      string
	files    []string // by number; see place
	main     map[string]setting
	services []service
	broken   []Finding // lines that are no lines
}

type ownNetwork struct{ Prefix netip.Prefix }

// Postfix reads main.cf and master.cf in f.Dir and the texts of the tables
// that they name, and plays every form of package plan against each service
// that takes connections, as Postfix's own rules would answer it. A form that
// would relay is a Problem at the line that lets it pass; where only this
// machine reaches the port, a Warning. What depends on something that is no
// text is said to be not decided, and never guessed. The last finding is the
// verdict: what was read, what was played, and what came of it.
func Postfix(ctx context.Context, f Foreign) ([]Finding, error) {
	c, err := readPostfix(f)
	if err != nil {
		return nil, err
	}
	found := slices.Clone(c.broken)
	faults := newFaults()
	for _, s := range c.listeners() {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		mistakes := s.mistakes()
		found = append(found, mistakes...)
		if faults.ports = append(faults.ports, s); len(s.fatal()) > 0 {
			faults.dead = append(faults.dead, s)
		} else {
			s.play(faults)
		}
		found = append(found, s.remarks()...)
	}
	found = append(found, faults.findings(c)...)
	slices.SortStableFunc(found, func(a, b Finding) int { return int(b.Level) - int(a.Level) })
	found = slices.CompactFunc(found, func(a, b Finding) bool {
		return a.Check == b.Check && a.At == b.At && a.What == b.What
	})
	return append(found, faults.verdict(c, Worst(found))), nil
}

func readPostfix(f Foreign) (*postfixConfig, error) {
	c := &postfixConfig{Foreign: f, hostname: f.Hostname, dir: usualPostfix}
	for _, i := range f.Own {
		c.own = append(c.own, ownNetwork{i.Prefix})
	}
	file, text, err := c.read("main.cf")
	if err != nil {
		return nil, fmt.Errorf("%w; name the folder that holds main.cf, as in --postfix %s", err, usualPostfix)
	}
	c.main = c.parseMain(file, text)
	file, text, err = c.read("master.cf")
	if err != nil {
		return nil, fmt.Errorf("%w; it must lie beside main.cf, since what stands behind -o there wins", err)
	}
	c.services = c.parseMaster(file, text)
	return c, nil
}

// read reads a file that the configuration names, and gives it a number.
func (c *postfixConfig) read(path string) (int32, string, error) {
	name, text, err := c.open(usualPostfix, path)
	if i := slices.Index(c.files, name); i >= 0 {
		return int32(i), text, err
	}
	c.files = append(c.files, name)
	return int32(len(c.files) - 1), text, err
}

// listeners returns the services that speak SMTP to whoever connects, each with
// the configuration that it sees. Behind postscreen that is the service to
// which it passes connections on.
func (c *postfixConfig) listeners() []*scope {
	var list []*scope
	for _, v := range c.services {
		command := filepath.Base(v.command)
		if v.kind != "inet" || command != "smtpd" && command != "postscreen" || c.disabled(v) {
			continue
		}
		s := c.scope(v)
		s.local = c.loopbackOnly(v)
		s.proxied = s.get("smtpd_upstream_proxy_protocol")
		if command == "postscreen" {
			s = c.behind(s)
		}
		list = append(list, s)
	}
	return list
}

// behind returns the service to which postscreen passes connections on.
func (c *postfixConfig) behind(front *scope) *scope {
	s := front
	name := front.text("smtpd_service_name")
	for _, w := range c.services {
		if w.kind == "pass" && w.name == name {
			s = c.scope(w)
			s.service.name, s.service.at = front.service.name, front.service.at
			break
		}
	}
	s.postscreen, s.local, s.proxied = true, front.local, front.get("postscreen_upstream_proxy_protocol")
	return s
}

func (c *postfixConfig) scope(v service) *scope {
	return &scope{postfixConfig: c, service: v, tables: map[string]*table{}, values: map[string]value{}, broken: map[string]bool{}, lists: map[string][]pattern{}}
}

// disabled reports whether master_service_disable switches a service off: by
// name/type or by type.
func (c *postfixConfig) disabled(v service) bool {
	for _, p := range strings.Fields(strings.ReplaceAll(c.scope(service{}).text("master_service_disable"), ",", " ")) {
		name, not := strings.CutPrefix(p, "!")
		if name == v.kind || strings.ReplaceAll(name, ".", "/") == v.name+"/"+v.kind {
			return !not
		}
	}
	return false
}

// loopbackOnly reports whether nobody but this machine reaches the service:
// by its own address in master.cf, or by inet_interfaces. The master opens the
// port: it knows nothing of what stands behind -o.
func (c *postfixConfig) loopbackOnly(v service) bool {
	local := func(host string) bool {
		host = strings.Trim(host, "[]")
		a, err := netip.ParseAddr(host)
		return strings.EqualFold(host, "localhost") || strings.EqualFold(host, "loopback-only") || err == nil && a.IsLoopback()
	}
	if i := strings.LastIndexByte(v.name, ':'); i > 0 {
		return local(v.name[:i])
	}
	interfaces := c.scope(service{}).get("inet_interfaces").words()
	return len(interfaces) > 0 && !slices.ContainsFunc(interfaces, func(v value) bool { return !local(v.text) })
}

// families are the addresses over which strangers come: IPv4, IPv6 or both.
func (s *scope) families() []netip.Addr {
	both := []netip.Addr{netip.MustParseAddr("198.18.0.77"), netip.MustParseAddr("2001:2::77")} // RFC 2544, RFC 5180: nobody's
	return slices.DeleteFunc(both, func(a netip.Addr) bool { return !s.speaks(a) })
}
