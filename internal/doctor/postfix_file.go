package doctor

import (
	"strings"

	"postern/internal/problem"
)

// A place is a line of one of the files that were read. Line 0 is the file as
// a whole: that is where a default comes from.
type place struct{ file, line int32 }

// A value is a text whose bytes know where they were written, through any
// number of expansions.
type value struct {
	text string
	at   []place // one for each byte
}

func written(text string, at place) value {
	v := value{text: text, at: make([]place, len(text))}
	for i := range v.at {
		v.at[i] = at
	}
	return v
}

func (v value) cut(from, to int) value { return value{v.text[from:to], v.at[from:to]} }

func (v value) trim() value {
	from := len(v.text) - len(strings.TrimLeft(v.text, space))
	return v.cut(from, max(from, len(strings.TrimRight(v.text, space))))
}

// place returns where v begins; of an empty value it is the zero place.
func (v value) place() place {
	if len(v.at) == 0 {
		return place{}
	}
	return v.at[0]
}

func concat(parts []value) value {
	if len(parts) == 1 {
		return parts[0]
	}
	var text strings.Builder
	var at []place
	for _, p := range parts {
		text.WriteString(p.text)
		at = append(at, p.at...)
	}
	return value{text.String(), at}
}

const space = " \t\r\n\v\f"

// logicalLines returns each line with those that continue it, as Postfix joins them:
// a line that begins with white space continues the last one, comments and
// empty lines in between count for nothing.
func logicalLines(file int32, text string) []value {
	var lines, parts []value
	number := int32(0)
	flush := func() {
		if len(parts) > 0 {
			lines, parts = append(lines, concat(parts)), nil
		}
	}
	for line := range strings.Lines(text) {
		number++
		bare := strings.TrimSpace(line)
		if bare == "" || bare[0] == '#' {
			continue
		}
		v := written(strings.TrimRight(line, "\r\n"), place{file, number})
		if !strings.ContainsRune(space, rune(line[0])) {
			flush()
		}
		parts = append(parts, v)
	}
	flush()
	return lines
}

// A setting is the name of a parameter and what it is set to, not yet expanded.
type setting struct {
	name  string
	value value
	at    place
}

// cutSetting reads "name = value".
func cutSetting(line value) (setting, bool) {
	line = line.trim()
	i := strings.IndexByte(line.text, '=')
	if i < 0 {
		return setting{}, false
	}
	name := strings.TrimSpace(line.text[:i])
	if name == "" || strings.ContainsAny(name, space) {
		return setting{}, false
	}
	return setting{name, line.cut(i+1, len(line.text)).trim(), line.place()}, true
}

// parseMain reads main.cf. Of a parameter that is set twice the last counts.
func (c *postfixConfig) parseMain(file int32, text string) map[string]setting {
	set := map[string]setting{}
	for _, line := range logicalLines(file, text) {
		s, ok := cutSetting(line)
		if !ok {
			c.broken = append(c.broken, Finding{
				Check: "main.cf", Level: Warning, At: c.pos(line.place()),
				What: "this line is no \"name = value\", and Postfix does not start with it", Do: "mend it, then run postfix check",
			})
			continue
		}
		set[s.name] = s
	}
	return set
}

// A service is one line of master.cf.
type service struct {
	name, kind, command string
	at                  place
	overrides           map[string]setting // what stands behind -o
}

// parseMaster reads master.cf: eight fields, then the program's arguments.
func (c *postfixConfig) parseMaster(file int32, text string) []service {
	var list []service
	for _, line := range logicalLines(file, text) {
		words := line.split(space)
		if len(words) < 8 {
			c.broken = append(c.broken, Finding{
				Check: "master.cf", Level: Warning, At: c.pos(line.place()),
				What: "this line has fewer than eight fields, and Postfix does not start with it", Do: "mend it, then run postfix check",
			})
			continue
		}
		s := service{
			name: words[0].text, kind: words[1].text, command: words[7].text,
			at: line.place(), overrides: map[string]setting{},
		}
		for args := words[8:]; len(args) > 0; args = args[1:] {
			option, ok := strings.CutPrefix(args[0].text, "-o")
			if !ok {
				continue
			}
			v := args[0].cut(2, len(args[0].text))
			if option == "" {
				if len(args) == 1 {
					break
				}
				args = args[1:]
				v = args[0]
			}
			if o, ok := cutSetting(v.unbraced()); ok {
				s.overrides[o.name] = o
			}
		}
		list = append(list, s)
	}
	return list
}

// split cuts v at any of the separators, but not inside braces.
func (v value) split(separators string) []value {
	var words []value
	depth, from := 0, -1
	for i := 0; i < len(v.text); i++ {
		b := v.text[i]
		if depth == 0 && strings.IndexByte(separators, b) >= 0 {
			if from >= 0 {
				words = append(words, v.cut(from, i))
			}
			from = -1
			continue
		}
		if from < 0 {
			from = i
		}
		switch {
		case b == '{':
			depth++
		case b == '}' && depth > 0:
			depth--
		}
	}
	if from >= 0 {
		words = append(words, v.cut(from, len(v.text)))
	}
	return words
}

// words are the members of one of Postfix's lists.
func (v value) words() []value { return v.split(space + ",") }

// unbraced returns what is inside a pair of braces that holds all of v.
func (v value) unbraced() value {
	v = v.trim()
	if strings.HasPrefix(v.text, "{") && closing(v.text, 0) == len(v.text)-1 {
		return v.cut(1, len(v.text)-1).trim()
	}
	return v
}

// closing returns the index of the brace that closes the one at i, or -1.
func closing(s string, i int) int {
	open, shut := s[i], byte('}')
	if open == '(' {
		shut = ')'
	}
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// pos turns a place into file and line.
func (c *postfixConfig) pos(p place) problem.Pos {
	return problem.Pos{File: c.files[p.file], Line: int(p.line)}
}
