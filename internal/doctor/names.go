package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/resolve"
	"postern/mail"
)

// checkHostname: the name of EHLO is one that others can look up, and leads
// here and back (RFC 5321 section 4.1.4, RFC 8499 forward-confirmed).
func checkHostname(ctx context.Context, s Server, m Machine) []Finding {
	name := s.Hostname.ASCII()
	switch {
	case s.Hostname.IsZero():
		return []Finding{{Level: Problem, What: "no hostname is set", Do: "set hostname to the full name of this machine, as in mx.example.org"}}
	case s.Hostname.IsLiteral():
		return []Finding{{Level: Warning, What: "hostname " + name + " is an address: many servers refuse that in EHLO", Do: "set hostname to a full name"}}
	case !strings.Contains(name, ".") || name == "localhost" || within(name, "localhost", "localdomain", "local", "internal", "invalid"):
		return []Finding{{Level: Problem, What: fmt.Sprintf("hostname %q is no full name that others can look up", name), Do: "set hostname to the full name of this machine, as in mx.example.org"}}
	}
	addresses, err := m.DNS.Addresses(ctx, name)
	if len(addresses) == 0 {
		return []Finding{{Level: Problem, What: fmt.Sprintf("hostname %s has no address: %v", name, err), Do: "give it an A or AAAA record with this machine's address"}}
	}
	var list []Finding
	for _, a := range addresses {
		list = append(list, confirm(ctx, m, name, a))
	}
	if !slices.ContainsFunc(addresses, m.owns) {
		level, do := Note, "see that something at that address passes connections on to here"
		if len(m.publicAddrs()) > 0 {
			level, do = Warning, "let it lead to an address of this machine: "+m.ownInWords()
		}
		list = append(list, Finding{Level: level, What: fmt.Sprintf("hostname %s leads to %s, which is no address of this machine", name, addressesInWords(addresses)), Do: do})
	}
	return list
}

func within(name string, above ...string) bool {
	return slices.ContainsFunc(above, func(s string) bool { return strings.HasSuffix(name, "."+s) })
}

func addressesInWords(list []netip.Addr) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

// confirm: the address's PTR record says the name from which it was reached.
func confirm(ctx context.Context, m Machine, name string, a netip.Addr) Finding {
	names, err := m.DNS.Names(ctx, a)
	switch {
	case slices.Contains(names, name):
		return Finding{Level: OK, What: fmt.Sprintf("%s leads to %s, and back", name, a)}
	case len(names) > 0:
		return Finding{
			Level: Warning, What: fmt.Sprintf("%s leads to %s, whose PTR record says %s", name, a, strings.Join(names, ", ")),
			Do: fmt.Sprintf("have whoever gave you %s set its PTR record to %s", a, name),
		}
	case silent(err):
		return Finding{Level: Note, What: fmt.Sprintf("not decided: the PTR record of %s: %v", a, err), Do: "try again when the resolver answers"}
	}
	return Finding{
		Level: Problem, What: fmt.Sprintf("%s has no PTR record: large providers refuse mail from it", a),
		Do: fmt.Sprintf("have whoever gave you %s set its PTR record to %s", a, name),
	}
}

// silent tells that nobody answered from an answer that there is nothing.
func silent(err error) bool {
	return err != nil && !errors.Is(err, resolve.ErrNoName) && !errors.Is(err, resolve.ErrNoData)
}

// checkReverse: every public address that mail may leave from has a PTR record
// whose name leads back to it.
func checkReverse(ctx context.Context, s Server, m Machine) []Finding {
	var list []Finding
	for _, a := range m.publicAddrs() {
		names, err := m.DNS.Names(ctx, a)
		if slices.Contains(names, s.Hostname.ASCII()) {
			continue // checkHostname has it
		}
		if len(names) == 0 {
			f := confirm(ctx, m, s.Hostname.ASCII(), a)
			if silent(err) {
				f.Level = Note
			}
			list = append(list, f)
			continue
		}
		if slices.ContainsFunc(names, func(n string) bool {
			back, _ := m.DNS.Addresses(ctx, n)
			return slices.Contains(back, a)
		}) {
			list = append(list, Finding{Level: OK, What: fmt.Sprintf("%s is %s, and that leads back", a, strings.Join(names, ", "))})
			continue
		}
		list = append(list, Finding{
			Level: Problem, What: fmt.Sprintf("%s says it is %s, which does not lead back to it", a, strings.Join(names, ", ")),
			Do: "give that name an A or AAAA record with the address, or have the PTR record name one that has",
		})
	}
	return list
}

// checkExchangers: mail for each own domain is sent here.
func checkExchangers(ctx context.Context, s Server, m Machine) []Finding {
	var list []Finding
	for _, d := range s.Domains {
		list = append(list, checkExchanger(ctx, s, d, m))
	}
	return list
}

func checkExchanger(ctx context.Context, s Server, d mail.Domain, m Machine) Finding {
	name := d.ASCII()
	do := fmt.Sprintf("%s. MX 10 %s.", name, s.Hostname.ASCII())
	hosts, err := m.DNS.Exchangers(ctx, name)
	switch {
	case errors.Is(err, resolve.ErrNullMX):
		return Finding{Level: Problem, What: fmt.Sprintf("%s says that it takes no mail (null MX)", name), Do: "publish " + do}
	case silent(err):
		return Finding{Level: Note, What: fmt.Sprintf("not decided: %v", err), Do: "try again when the resolver answers"}
	case err != nil:
		return Finding{Level: Problem, What: fmt.Sprintf("nobody can send to %s: %v", name, err), Do: "publish " + do}
	}
	for _, h := range hosts {
		addresses, _ := m.DNS.Addresses(ctx, h)
		if h == s.Hostname.ASCII() || slices.ContainsFunc(addresses, m.owns) {
			return Finding{Level: OK, What: fmt.Sprintf("mail for %s is sent to %s", name, h)}
		}
	}
	return Finding{
		Level: Warning, What: fmt.Sprintf("mail for %s is sent to %s, none of which is this machine", name, strings.Join(hosts, ", ")),
		Do: "publish " + do + " or see that one of them passes it on to here",
	}
}
