package doctor

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A table is a lookup table of Postfix, as far as its source is a text.
type table struct {
	name    string // type:name, as written
	at      place
	pattern bool // it is asked for whole keys only: regexp, pcre, cidr and their like
	folds   bool // its builder made keys small; of the others, the asker may
	entries []entry
	index   map[string]*entry // by key, made small; of tables that are no patterns
	parts   []*table          // of unionmap and pipemap
	piped   bool
	doubt   doubt   // why nothing can be said of it
	fatal   bool    // Postfix ends when it opens it
	skipped []value // lines that Postfix passes over, with what is wrong about them
}

// An entry is one line of a table.
type entry struct {
	key    string
	test   *test // of a table of patterns
	result value
	at     place
}

// ground returns an entry as what decided.
func (e *entry) ground() value { return written(e.key, e.at) }

// A test is the left side of an entry of a table of patterns.
type test struct {
	net     netip.Prefix // of cidr
	match   *regexp.Regexp
	unread  string // why the expression cannot be tried
	not     bool
	always  bool // of static
	opens   bool // it is "if"
	closes  bool // it is "endif"
	sources []string
}

// A key is what a table is asked for. A part of a name or an address is not
// looked for in tables of patterns.
type key struct {
	text string
	part bool
}

// textual are the types whose source is a text beside the built file. The
// program that builds them makes their keys small.
var textual = map[string]bool{"hash": true, "btree": true, "lmdb": true, "cdb": true, "dbm": true, "sdbm": true, "texthash": true}

// asked are the types that answer as they run.
var asked = map[string]bool{
	"environ": true, "ldap": true, "memcache": true, "mongodb": true, "mysql": true, "netinfo": true, "nis": true, "nisplus": true,
	"pgsql": true, "proxy": true, "randmap": true, "sdbm": true, "socketmap": true, "sqlite": true, "tcp": true, "unix": true, "internal": true,
}

// isTable tells "type:name" from a host name, an address or a path. Postfix
// takes each colon outside of brackets for that of a table.
func isTable(s string) bool { return s != "" && s[0] != '[' && strings.Contains(s, ":") }

// table returns the table of that name, read once for each service.
func (s *scope) table(name value) *table {
	if t, ok := s.tables[name.text]; ok {
		return t
	}
	t := &table{name: name.text, at: name.place()}
	s.tables[name.text] = t
	if s.opening++; s.opening > 8 {
		t.doubt.flaw = "names itself"
	} else {
		s.open(t, name)
	}
	s.opening--
	return t
}

func (s *scope) open(t *table, name value) {
	if rest, ok := strings.CutPrefix(name.text, "proxy:"); ok {
		name = name.cut(len(name.text)-len(rest), len(name.text))
	}
	kind, path, _ := strings.Cut(name.text, ":")
	argument := name.cut(len(kind)+1, len(name.text))
	inLine := strings.HasPrefix(path, "{") && closing(path, 0) == len(path)-1
	switch {
	case kind == "static":
		result := argument.unbraced()
		t.entries = []entry{{key: "everything", test: &test{always: true}, result: result, at: t.at}}
	case kind == "fail":
		t.pattern = true
		t.doubt.flaw = "answers with an error on purpose"
	case kind == "inline":
		if s.inline(t, argument, inLine); len(t.entries) == 0 {
			t.doubt.flaw = "is no table in braces"
		}
	case kind == "unionmap" || kind == "pipemap":
		s.join(t, kind, argument.unbraced())
	case kind == "cidr" || kind == "regexp" || kind == "pcre":
		t.pattern = true
		if inLine {
			t.rules(kind, bracedLines(argument.unbraced()))
		} else if file, text, err := s.read(path); err == nil {
			t.rules(kind, logicalLines(file, text))
		} else {
			t.doubt.undecided = "its text " + path + " cannot be read"
		}
	case textual[kind]:
		file, text, err := s.read(path)
		if err != nil {
			t.doubt.undecided = "its text " + path + " cannot be read"
			return
		}
		t.folds = kind != "texthash"
		t.pairs(kind, logicalLines(file, text))
	case asked[kind]:
		t.doubt.undecided = "tables of type " + kind + " answer as they run, not as they are written"
	default:
		t.pattern, t.fatal = true, kind == ""
		t.doubt.flaw = "is of no type that Postfix has"
		if strings.Contains(name.text, "::") || strings.Count(name.text, ":") > 2 {
			t.doubt.flaw = "is taken for a table; an IPv6 address stands in brackets"
		}
	}
}

func (s *scope) inline(t *table, argument value, inLine bool) {
	if !inLine {
		return
	}
	for _, item := range argument.unbraced().words() {
		o, ok := cutSetting(item.unbraced())
		if !ok {
			t.entries = nil
			return
		}
		t.add(entry{key: o.name, result: o.value, at: item.place()})
	}
}

// join opens the tables of a union or a pipe. The first says how all are asked.
func (s *scope) join(t *table, kind string, list value) {
	for _, w := range list.words() {
		if !isTable(w.text) {
			t.doubt.flaw = "names " + w.text + ", which is no type:name"
			return
		}
		t.parts = append(t.parts, s.table(w))
	}
	if len(t.parts) == 0 {
		t.doubt.flaw = "names no table"
		return
	}
	t.piped, t.pattern = kind == "pipemap", t.parts[0].pattern
}

// bracedLines are the lines of a table that stands within its name, each in
// braces of its own.
func bracedLines(list value) []value {
	var lines []value
	for _, w := range list.words() {
		lines = append(lines, w.unbraced())
	}
	return lines
}

// pairs reads "key value". Of a key that is there twice the first counts; a
// texthash answers nothing then.
func (t *table) pairs(kind string, lines []value) {
	for _, line := range lines {
		line = line.trim()
		i := keyLength(line.text)
		e := entry{key: line.text[:i], result: line.cut(i, len(line.text)).trim(), at: line.place()}
		if e.result.text == "" {
			t.skip(line, "has no value")
			continue
		}
		if !t.add(e) && kind == "texthash" {
			t.doubt.flaw = "has the key " + e.key + " twice"
		}
	}
}

// keyLength is where white space outside quotes begins.
func keyLength(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(space, s[i]) >= 0:
			return i
		}
	}
	return len(s)
}

func (t *table) add(e entry) bool {
	if t.index == nil {
		t.index = map[string]*entry{}
	}
	small := strings.ToLower(e.key)
	if _, ok := t.index[small]; ok {
		return false
	}
	t.entries = append(t.entries, e)
	t.index[small] = &e
	return true
}

func (t *table) skip(line value, why string) {
	if len(t.skipped) < 20 {
		t.skipped = append(t.skipped, written(why, line.place()))
	}
}

// find looks a key up. folds says that the asker makes it small, as access
// tables are asked; lists keep the keys of what nobody made small.
func (t *table) find(k key, folds bool) (*entry, doubt) {
	switch {
	case k.part && t.pattern:
		return nil, doubt{}
	case t.doubt.any():
		return nil, doubt{
			undecided: inFront(t.name, t.doubt.undecided),
			flaw:      inFront(t.name, t.doubt.flaw),
		}
	case t.parts != nil:
		return t.findInParts(k, folds)
	case t.index != nil:
		e := t.index[strings.ToLower(k.text)]
		if e != nil && !t.folds && !folds && e.key != k.text {
			return nil, doubt{}
		}
		return e, doubt{}
	}
	return t.findRule(k)
}

func inFront(name, why string) string {
	if why == "" {
		return ""
	}
	return name + " " + why
}

// findInParts asks a union, whose answers are joined by commas, or a pipe, of
// which each answer is the next one's key.
func (t *table) findInParts(k key, folds bool) (*entry, doubt) {
	var all *entry
	for _, part := range t.parts {
		e, d := part.find(key{text: k.text}, folds)
		switch {
		case d.any():
			return nil, d
		case t.piped && e == nil:
			return nil, doubt{}
		case e == nil:
			continue
		case t.piped:
			k.text, all = e.result.text, e
		case all == nil:
			all = e
		default:
			joined := concat([]value{all.result, written(",", all.at), e.result})
			all = &entry{key: all.key, result: joined, at: all.at}
		}
	}
	return all, doubt{}
}

// findRule asks the entries of a table of patterns in turn.
func (t *table) findRule(k key) (*entry, doubt) {
	for i := 0; i < len(t.entries); i++ {
		e := &t.entries[i]
		if e.test.closes {
			continue
		}
		yes, unread := e.test.of(k.text)
		if unread != "" {
			return nil, doubt{undecided: t.name + ": " + unread}
		}
		switch {
		case e.test.opens && !yes:
			i = t.end(i)
		case !e.test.opens && yes:
			return e, doubt{}
		}
	}
	return nil, doubt{}
}

// end returns the endif of the if at i; without one, the last entry.
func (t *table) end(i int) int {
	for depth := 1; ; {
		i++
		switch {
		case i == len(t.entries):
			return i
		case t.entries[i].test.opens:
			depth++
		case t.entries[i].test.closes:
			if depth--; depth == 0 {
				return i
			}
		}
	}
}

func (x *test) of(text string) (yes bool, unread string) {
	switch {
	case x.always:
		return true, ""
	case x.unread != "":
		return false, x.unread
	case x.match != nil:
		return x.match.MatchString(text) != x.not, ""
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is4() != x.net.Addr().Is4() {
		return false, "" // another family is no match, and no opposite of one
	}
	return x.net.Contains(a) != x.not, ""
}

// leaves are the tables that a union or a pipe is made of, or t itself.
func (t *table) leaves() []*table {
	if t.parts == nil {
		return []*table{t}
	}
	var all []*table
	for _, part := range t.parts {
		all = append(all, part.leaves()...)
	}
	return all
}

// networks are the networks that the table's keys name: those of cidr, and
// the leading numbers of an address in the others.
func (t *table) networks() []netip.Prefix {
	var list []netip.Prefix
	for _, leaf := range t.leaves() {
		for _, e := range leaf.entries {
			switch {
			case e.test == nil:
				if p, ok := leading(e.key); ok {
					list = append(list, p)
				}
			case e.test.net.IsValid():
				if e.test.not {
					list = append(list, everywhere(e.test.net.Addr()))
				}
				list = append(list, e.test.net)
			}
		}
	}
	return list
}

func everywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// leading reads "203", "203.0", "203.0.113" or "2001:db8" as the network that
// access(5) means.
func leading(key string) (netip.Prefix, bool) {
	if strings.Contains(key, ":") {
		return leadingSix(key)
	}
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

func leadingSix(key string) (netip.Prefix, bool) {
	parts := strings.Split(key, ":")
	whole := key
	if len(parts) < 8 && !strings.Contains(key, "::") {
		whole = key + "::"
	}
	a, err := netip.ParseAddr(whole)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	if whole == key {
		return netip.PrefixFrom(a, 128), true
	}
	p, err := a.Prefix(16 * len(parts))
	return p, err == nil
}

// samples are texts that the table's keys mean: the keys themselves, and what
// an expression matches.
func (t *table) samples(wanted func(*entry) bool) []string {
	if t.piped { // the first table's keys are the keys of all
		return t.parts[0].samples(func(*entry) bool { return true })
	}
	var list []string
	for _, leaf := range t.leaves() {
		for i := range leaf.entries {
			e := &leaf.entries[i]
			switch {
			case len(list) >= maxSightings:
				return list
			case e.test == nil && wanted(e):
				list = append(list, strings.ToLower(e.key))
			case e.test != nil && !e.test.closes && (e.test.opens || wanted(e)):
				list = append(list, e.test.sources...)
			}
		}
	}
	return slices.Compact(list)
}
