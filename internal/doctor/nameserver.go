package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// openResolvers answer the whole world, so the lists that count questions by
// who asks refuse them: then nobody is listed, or everybody.
var openResolvers = func() []netip.Addr {
	var list []netip.Addr
	for _, s := range []string{
		"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844", // Google
		"1.1.1.1", "1.0.0.1", "1.1.1.2", "1.0.0.2", "1.1.1.3", "1.0.0.3", "2606:4700:4700::1111", "2606:4700:4700::1001", // Cloudflare
		"9.9.9.9", "149.112.112.112", "9.9.9.10", "149.112.112.10", "9.9.9.11", "149.112.112.11", "2620:fe::fe", "2620:fe::9", // Quad9
		"208.67.222.222", "208.67.220.220", "2620:119:35::35", "2620:119:53::53", // OpenDNS
		"4.2.2.1", "4.2.2.2", "4.2.2.3", "4.2.2.4", "4.2.2.5", "4.2.2.6", // Level 3
		"94.140.14.14", "94.140.15.15", "2a10:50c0::ad1:ff", "2a10:50c0::ad2:ff", // AdGuard
		"64.6.64.6", "64.6.65.6", "77.88.8.8", "77.88.8.1", "185.228.168.9", "185.228.169.9", "76.76.2.0", "76.76.10.0", "193.110.81.0", "185.253.5.0",
		"114.114.114.114", "223.5.5.5", "223.6.6.6", "119.29.29.29", "180.76.76.76",
	} {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}()

// checkResolver: it answers, is not one that blocklists refuse, and validates.
func checkResolver(ctx context.Context, s Server, m Machine) []Finding {
	var list []Finding
	for _, a := range m.Facts.Resolvers {
		if slices.Contains(openResolvers, a.WithZone("")) {
			list = append(list, Finding{
				Level: Warning, What: fmt.Sprintf("the resolver %s is public: blocklists refuse its questions, so their answers mean nothing", a),
				Do: "run a resolver of your own, such as unbound, and name it in /etc/resolv.conf",
			})
		}
	}
	name := s.Hostname.ASCII()
	if _, err := m.DNS.Addresses(ctx, name); silent(err) {
		return append(list, Finding{
			Level: Problem, What: fmt.Sprintf("the resolver does not answer: %v", err),
			Do: "without it no mail can leave; see /etc/resolv.conf, and that port 53 is open on the way",
		})
	}
	secure, err := m.DNS.Validates(ctx)
	switch {
	case err != nil:
		list = append(list, Finding{Level: Note, What: fmt.Sprintf("not decided: whether the resolver validates (DNSSEC): %v", err)})
	case !secure:
		list = append(list, Finding{
			Level: Note, What: "the resolver does not validate (DNSSEC): DANE is not used, and who can forge answers can turn mail elsewhere",
			Do: "run a validating resolver on this machine, such as unbound",
		})
	default:
		list = append(list, Finding{Level: OK, What: "the resolver answers and validates"})
	}
	return list
}
