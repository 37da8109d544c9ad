package policy

import (
	_ "embed"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

//go:embed special.tsv
var specialTSV string

// A special is a network of the table of addresses that are not simply some
// host's on the internet.
type special struct {
	network netip.Prefix
	inside  string // why nothing is sent there because others say so, or ""
	client  string // why it is never trusted, as the end of a sentence about it, or ""
	holds   int    // the octet at which an IPv4 address begins that it leads to, or -1
}

// specials is the table. It is part of the program; a fault in it is a broken
// build, found by its test.
var specials = sync.OnceValue(func() []special {
	table, err := parseSpecials("special.tsv", specialTSV)
	if err != nil {
		panic(err)
	}
	return table
})

func parseSpecials(file, text string) ([]special, error) {
	var table []special
	seen := map[netip.Prefix]bool{}
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseSpecial(strings.Split(line, "\t"))
		if err == nil && seen[s.network] {
			err = fmt.Errorf("%s stands twice", s.network)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		seen[s.network] = true
		table = append(table, s)
	}
	return table, nil
}

func parseSpecial(cells []string) (special, error) {
	if len(cells) != 5 || cells[4] == "" {
		return special{}, fmt.Errorf("%d cells; want network, inside, client, holds, source", len(cells))
	}
	s := special{holds: -1}
	var err error
	if s.network, err = netip.ParsePrefix(cells[0]); err != nil || s.network != s.network.Masked() {
		return special{}, fmt.Errorf("%q is no network", cells[0])
	}
	if cells[1] != "-" {
		s.inside = cells[1]
	}
	if cells[2] != "-" {
		s.client = cells[2]
	}
	if cells[3] != "-" {
		if s.holds, err = strconv.Atoi(cells[3]); err != nil || s.holds < 0 || s.holds > 12 || !s.network.Addr().Is6() {
			return special{}, fmt.Errorf("%q is no octet of an IPv6 address at which an IPv4 address begins", cells[3])
		}
	}
	return s, nil
}

// specialOf returns the line that speaks for an address. The table has one for
// every address.
func specialOf(a netip.Addr) special { return specialOver(netip.PrefixFrom(a, a.BitLen())) }

// specialOver returns the line of the longest network that holds all of p.
func specialOver(p netip.Prefix) special {
	best := special{holds: -1}
	for _, s := range specials() {
		if s.network.Bits() <= p.Bits() && s.network.Contains(p.Addr()) && (!best.network.IsValid() || s.network.Bits() > best.network.Bits()) {
			best = s
		}
	}
	return best
}

// neverClient says why a network must not be trusted: because of the special
// network in which it lies, or of one that lies in it. "" where it may be.
func neverClient(p netip.Prefix) string {
	if why := specialOver(p).client; why != "" {
		return why
	}
	for _, s := range specials() {
		if s.client != "" && p.Contains(s.network.Addr()) {
			return "holds " + s.network.String() + ", which " + s.client
		}
	}
	return ""
}
