package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/verdict"
)

// places lists the addresses and their ports of which choose is true, and the
// ports that are shut where every address has the same.
func places(r Report, choose func(*Door) bool) string {
	var order []string // ports, in words
	addresses := map[string][]string{}
	for i := range r.Addresses {
		a := &r.Addresses[i]
		var open []uint16
		for k := range a.Doors {
			if choose(&a.Doors[k]) {
				open = append(open, a.Doors[k].Addr.Port())
			}
		}
		if len(open) == 0 {
			continue
		}
		words := ports(open)
		if len(a.Shut) > 0 {
			words += "; " + numbers(a.Shut) + " shut"
		}
		if addresses[words] == nil {
			order = append(order, words)
		}
		addresses[words] = append(addresses[words], a.IP.String())
	}
	parts := make([]string, 0, len(order))
	for _, words := range order {
		parts = append(parts, strings.Join(addresses[words], ", ")+" "+words)
	}
	return strings.Join(parts, "; ")
}

func ports(list []uint16) string {
	if len(list) == 1 {
		return "port " + numbers(list)
	}
	return "ports " + numbers(list)
}

func numbers(list []uint16) string {
	words := make([]string, 0, len(list))
	for _, n := range list {
		words = append(words, fmt.Sprint(n))
	}
	return strings.Join(words, " ")
}

// notTested says in one sentence why there was nothing to test.
func notTested(r Report) string {
	if r.Failure != "" {
		return r.Failure
	}
	var parts []string
	for _, a := range r.Addresses {
		for _, d := range a.Doors {
			parts = append(parts, d.Addr.String()+" "+d.Why)
		}
		switch n := len(a.Shut); {
		case n == 0:
		case n == 1:
			parts = append(parts, fmt.Sprintf("%s port %d: connection refused, nothing listens there", a.IP, a.Shut[0]))
		case n == len(a.Ports):
			parts = append(parts, fmt.Sprintf("%s: connection refused, nothing listens on the %d ports that were tried (%s)", a.IP, n, numbers(a.Shut)))
		default:
			parts = append(parts, fmt.Sprintf("%s %s shut", a.IP, ports(a.Shut)))
		}
	}
	if len(parts) == 0 {
		return "no port was tried"
	}
	return strings.Join(parts, "; ")
}

// others writes the ports whose answer is another than the target's.
func (t *text) others(worst *Door) {
	seen := map[string][]string{}
	var order []string
	for _, d := range t.r.doors() {
		if d.Verdict == worst.Verdict {
			continue
		}
		text := strings.ToLower(answers[d.Verdict]) + ": " + d.Why
		if seen[text] == nil {
			order = append(order, text)
		}
		seen[text] = append(seen[text], d.Addr.String())
	}
	for _, text := range order {
		t.part("but", strings.Join(seen[text], ", ")+" "+text)
	}
	for _, f := range t.r.Addresses {
		if len(t.r.Addresses) > 1 && len(f.Doors) == 0 {
			t.part("but", notTested(Report{Addresses: []Address{f}}))
		}
	}
	if four, six := t.family(true), t.family(false); four != six && four != verdict.NotTested && six != verdict.NotTested {
		t.part("note", "IPv4 and IPv6 differ: the server's rules name addresses of one family only")
	}
}

// family returns the worst verdict of the addresses of one family.
func (t *text) family(four bool) verdict.Verdict {
	worst := verdict.NotTested
	for _, a := range t.r.Addresses {
		if v := a.Verdict(); a.IP.Unmap().Is4() == four && v.Worse(worst) {
			worst = v
		}
	}
	return worst
}

// span is a duration for people.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min", int(d.Minutes()+0.5))
}

// distinct returns each port once, as numbers, of the doors that are chosen.
func distinct(doors []*Door, choose func(*Door) bool) []uint16 {
	var list []uint16
	for _, d := range doors {
		if p := d.Addr.Port(); choose(d) && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}
