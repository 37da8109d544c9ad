package doctor

import (
	"strconv"
	"strings"
)

// maxExpansion and maxNesting bound what the expansion of one parameter may
// become: parameters that name each other twice double with each step.
const (
	maxExpansion = 256 << 10
	maxNesting   = 32
)

// A scope is the configuration as one service of master.cf sees it.
type scope struct {
	*postfixConfig
	service service
	tables  map[string]*table
	opening int                  // tables that are being opened, one within another
	values  map[string]value     // what was expanded already
	lists   map[string][]pattern // what was read already, by its text
	broken  map[string]bool      // whose value Postfix cannot expand
	routes  *scope               // see router

	proxied    value // who demands a PROXY header; empty: nobody
	postscreen bool  // it stands in front, and talks first
	local      bool  // only this machine reaches it
}

// raw returns a parameter as it was written: behind -o, in main.cf, or built in.
func (s *scope) raw(name string) setting {
	if v, ok := s.service.overrides[name]; ok {
		return v
	}
	if v, ok := s.main[name]; ok {
		return v
	}
	return setting{name: name, value: written(s.builtIn(name), place{file: mainCF}), at: place{file: mainCF}}
}

// isSet reports whether somebody wrote the parameter down.
func (s *scope) isSet(name string) bool {
	_, over := s.service.overrides[name]
	_, main := s.main[name]
	return over || main
}

// get returns a parameter with everything expanded.
func (s *scope) get(name string) value {
	if v, ok := s.values[name]; ok {
		return v
	}
	s.values[name] = value{} // what a default asks for on its way, as mydomain does of myhostname
	e := expansion{scope: s, left: maxExpansion}
	v := e.expand(s.raw(name).value, 0).trim()
	s.broken[name] = e.broken
	s.values[name] = v
	return v
}

func (s *scope) yes(name string) bool { return s.is(name, "yes") }

// is compares a word as Postfix does: without case.
func (s *scope) is(name, word string) bool { return strings.EqualFold(s.text(name), word) }

func (s *scope) text(name string) string { return s.get(name).text }

// An expansion is one parameter that is being expanded.
type expansion struct {
	*scope
	broken bool // a dollar sign has no name, or no end of its braces
	left   int  // bytes that it may still grow by; each step costs one too, for what doubles and stays empty
}

// expand follows $name, ${name}, $(name), ${name?text}, ${name:text},
// ${name?{text}:{text}} and ${{a} == {b} ? {text} : {text}} (postconf(5)).
func (e *expansion) expand(v value, depth int) value {
	e.left--
	var out []value
	add := func(part value) {
		part = part.cut(0, min(len(part.text), max(e.left, 0)))
		e.left -= len(part.text)
		out = append(out, part)
	}
	for depth < maxNesting && e.left > 0 {
		i := strings.IndexByte(v.text, '$')
		if i < 0 {
			break
		}
		if i+1 == len(v.text) {
			e.broken = true
			v = v.cut(0, i)
			break
		}
		add(v.cut(0, i))
		v = v.cut(i+1, len(v.text))
		switch next := v.text[0]; {
		case next == '$':
			add(v.cut(0, 1))
			v = v.cut(1, len(v.text))
		case next == '{' || next == '(':
			end := closing(v.text, 0)
			if end < 0 {
				e.broken = true
				return concat(out)
			}
			add(e.braced(v.cut(1, end), depth+1))
			v = v.cut(end+1, len(v.text))
		default:
			n := nameLength(v.text)
			e.broken = e.broken || n == 0
			if n > 0 {
				add(e.named(v.cut(0, n), depth+1))
			}
			v = v.cut(n, len(v.text))
		}
	}
	if depth < maxNesting {
		add(v)
	}
	return concat(out)
}

// named expands a parameter. What nobody wrote down is written, so to speak,
// where it is named.
func (e *expansion) named(name value, depth int) value {
	v := e.expand(e.raw(name.text).value, depth)
	if e.isSet(name.text) {
		return v
	}
	return written(v.text, name.place())
}

func nameLength(s string) int {
	n := 0
	for n < len(s) && (s[n] == '_' || s[n] >= '0' && s[n] <= '9' || s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z') {
		n++
	}
	return n
}

// braced expands what stands between the braces.
func (e *expansion) braced(v value, depth int) value {
	v = v.trim()
	if strings.HasPrefix(v.text, "{") {
		return e.compared(v, depth)
	}
	n := nameLength(v.text)
	rest := v.cut(n, len(v.text)).trim()
	if rest.text == "" {
		return e.named(v.cut(0, n), depth)
	}
	holds := e.expand(e.raw(v.text[:n]).value, depth).text != ""
	return e.chosen(rest, holds, depth)
}

// chosen reads "?yes", ":no" or "?{yes}:{no}".
func (e *expansion) chosen(v value, holds bool, depth int) value {
	branch := v.cut(1, len(v.text)).trim()
	var other value
	if strings.HasPrefix(branch.text, "{") {
		if end := closing(branch.text, 0); end >= 0 {
			other = branch.cut(end+1, len(branch.text)).trim()
			branch = branch.cut(1, end)
		}
	}
	switch v.text[0] {
	case '?':
		if holds {
			return e.expand(branch.trim(), depth)
		}
		if strings.HasPrefix(other.text, ":") {
			return e.expand(other.cut(1, len(other.text)).unbraced(), depth)
		}
	case ':':
		if !holds {
			return e.expand(branch.trim(), depth)
		}
	}
	return value{}
}

// compared reads "{a} operator {b} ? ...".
func (e *expansion) compared(v value, depth int) value {
	end := closing(v.text, 0)
	if end < 0 {
		return value{}
	}
	left := e.expand(v.cut(1, end), depth).trim().text
	rest := v.cut(end+1, len(v.text)).trim()
	i := strings.IndexByte(rest.text, '{')
	if i < 0 {
		return value{}
	}
	operator := strings.TrimSpace(rest.text[:i])
	if end = closing(rest.text, i); end < 0 {
		return value{}
	}
	right := e.expand(rest.cut(i+1, end), depth).trim().text
	rest = rest.cut(end+1, len(rest.text)).trim()
	if rest.text == "" {
		return value{}
	}
	return e.chosen(rest, compare(left, operator, right), depth)
}

// compare knows the operators of texts and of compatibility levels.
func compare(left, operator, right string) bool {
	level := strings.HasSuffix(operator, "level")
	operator = strings.TrimSpace(strings.TrimSuffix(operator, "level"))
	x, err1 := strconv.Atoi(left)
	y, err2 := strconv.Atoi(right)
	var by int
	switch {
	case level:
		by = levelOf(left) - levelOf(right)
	case err1 == nil && err2 == nil:
		by = x - y
	default:
		by = strings.Compare(left, right)
	}
	switch operator {
	case "==":
		return by == 0
	case "!=":
		return by != 0
	case "<":
		return by < 0
	case "<=":
		return by <= 0
	case ">":
		return by > 0
	case ">=":
		return by >= 0
	}
	return false
}

// levelOf makes a number of major.minor.patch; a missing part is 0.
func levelOf(s string) int {
	n := 0
	parts := strings.SplitN(s, ".", 3)
	for i := range 3 {
		n *= 1000
		if i < len(parts) {
			if part, err := strconv.Atoi(strings.TrimSpace(parts[i])); err == nil && part >= 0 && part < 1000 {
				n += part
			}
		}
	}
	return n
}
