package doctor

import (
	"net/netip"
	"strconv"
	"strings"
)

// A table is a lookup table of Postfix, as far as its source is a text.
type table struct {
	name    string // type:name, as written
	static  *entry // it answers everything with this
	cidr    bool
	entries []entry
	unread  string // why nothing can be said of it; "" when it was read
}

// An entry is one line of a table.
type entry struct {
	key    string
	net    netip.Prefix // of cidr: the network
	not    bool         // of cidr: everything but the network
	result value
	at     place
}

// textual are the types whose source is a text beside the built file.
var textual = map[string]bool{
	"hash": true, "btree": true, "lmdb": true, "cdb": true, "dbm": true, "sdbm": true, "texthash": true,
}

// isTable tells "type:name" from a host name, an address or a path.
func isTable(s string) bool {
	kind, _, ok := strings.Cut(s, ":")
	return ok && kind != "" && nameLength(kind) == len(kind) && !strings.HasPrefix(s, "[") && !isHex(kind)
}

// isHex keeps IPv6 addresses from being taken for tables; no type of table is
// made of hexadecimal digits alone but cdb, and that is no first group of an
// address that anybody writes without brackets.
func isHex(s string) bool {
	return s != "cdb" && len(s) <= 4 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// table returns the table of that name, read once for each service.
func (s *scope) table(name value) *table {
	if t, ok := s.tables[name.text]; ok {
		return t
	}
	t := s.openTable(name)
	s.tables[name.text] = t
	return t
}

func (s *scope) openTable(name value) *table {
	t := &table{name: name.text}
	full := name
	if rest, ok := strings.CutPrefix(name.text, "proxy:"); ok {
		full = name.cut(len(name.text)-len(rest), len(name.text))
	}
	kind, path, _ := strings.Cut(full.text, ":")
	argument := full.cut(len(kind)+1, len(full.text))
	switch {
	case kind == "static":
		t.static = &entry{key: "everything", result: argument.unbraced(), at: name.place()}
	case kind == "fail":
		t.unread = "it answers with an error on purpose"
	case kind == "inline":
		for _, item := range argument.unbraced().words() {
			if o, ok := cutSetting(item.unbraced()); ok {
				t.entries = append(t.entries, entry{key: strings.ToLower(o.name), result: o.value, at: item.place()})
			}
		}
	case kind == "cidr" || textual[kind]:
		t.cidr = kind == "cidr"
		file, text, err := s.read(path)
		if err != nil {
			t.unread = "its text " + path + " cannot be read"
			break
		}
		t.readEntries(logicalLines(file, text))
	default:
		t.unread = "tables of type " + kind + " answer as they run, not as they are written"
	}
	return t
}

func (t *table) readEntries(lines []value) {
	for _, line := range lines {
		line = line.trim()
		i := strings.IndexAny(line.text, space)
		if i < 0 {
			i = len(line.text)
		}
		e := entry{key: strings.ToLower(line.text[:i]), result: line.cut(i, len(line.text)).trim(), at: line.place()}
		if t.cidr {
			if e.key == "if" || e.key == "endif" {
				t.entries, t.unread = nil, "it has conditions (if, endif)"
				return
			}
			var ok bool
			pattern, not := strings.CutPrefix(e.key, "!")
			if e.net, ok = parseNetwork(pattern); !ok {
				continue
			}
			e.not = not
		}
		t.entries = append(t.entries, e)
	}
}

// find looks a key up. Of a cidr table, key is an address.
func (t *table) find(key string) *entry {
	if t.static != nil {
		return t.static
	}
	key = strings.ToLower(key)
	a, err := netip.ParseAddr(key)
	for i := range t.entries {
		e := &t.entries[i]
		if t.cidr {
			if err == nil && e.net.Contains(a) != e.not {
				return e
			}
			continue
		}
		if e.key == key {
			return e
		}
	}
	return nil
}

// networks are the networks that the table's keys name: those of cidr, and
// the leading numbers of an address in the others.
func (t *table) networks() []netip.Prefix {
	var list []netip.Prefix
	for _, e := range t.entries {
		if t.cidr {
			if e.not {
				list = append(list, netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			}
			list = append(list, e.net)
			continue
		}
		if p, ok := leading(e.key); ok {
			list = append(list, p)
		}
	}
	return list
}

// leading reads "203", "203.0" or "203.0.113" as the network that access(5) means.
func leading(key string) (netip.Prefix, bool) {
	parts := strings.Split(key, ".")
	var b [4]byte
	if len(parts) > 4 {
		return netip.Prefix{}, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return netip.Prefix{}, false
		}
		b[i] = byte(n)
	}
	return netip.PrefixFrom(netip.AddrFrom4(b), 8*len(parts)), true
}

// parseNetwork reads an address or a network, IPv6 with brackets or without.
// An IPv4 network that is written as IPv6 is the IPv4 network.
func parseNetwork(s string) (netip.Prefix, bool) {
	address, length, ranged := strings.Cut(s, "/")
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	bits := a.BitLen()
	if ranged {
		if bits, err = strconv.Atoi(length); err != nil {
			return netip.Prefix{}, false
		}
	}
	if a.Is4In6() && bits >= 96 {
		a, bits = a.Unmap(), bits-96
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}
