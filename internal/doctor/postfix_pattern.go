package doctor

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// rules reads a table of patterns: cidr, regexp or pcre, with their conditions
// (cidr_table(5), regexp_table(5), pcre_table(5)). Postfix passes over what it
// cannot read.
func (t *table) rules(kind string, lines []value) {
	depth := 0
	for _, line := range lines {
		line = line.trim()
		x, rest := &test{}, line
		if after, ok := cutWord(line, "if"); ok {
			x.opens, rest = true, after
		} else if _, ok := cutWord(line, "endif"); ok {
			if depth > 0 {
				depth--
				t.entries = append(t.entries, entry{test: &test{closes: true}, at: line.place()})
			}
			continue
		}
		for strings.HasPrefix(rest.text, "!") {
			rest, x.not = rest.cut(1, len(rest.text)).trim(), !x.not
		}
		size, flaw := x.read(kind, rest.text)
		result := rest.cut(size, len(rest.text)).trim()
		if flaw == "" && !x.opens && result.text == "" && kind == "cidr" {
			flaw = "has no value"
		}
		if flaw != "" {
			t.skip(line, flaw)
			continue
		}
		if x.opens {
			depth++
		}
		t.entries = append(t.entries, entry{key: line.text[:len(line.text)-len(rest.text)+size], test: x, result: result, at: line.place()})
	}
}

// cutWord cuts a word off that is followed by no letter and no digit.
func cutWord(line value, word string) (value, bool) {
	n := len(word)
	if len(line.text) < n || !strings.EqualFold(line.text[:n], word) || nameLength(line.text[n:]) > 0 {
		return line, false
	}
	return line.cut(n, len(line.text)).trim(), true
}

// read reads the left side of an entry, and returns its length.
func (x *test) read(kind, text string) (size int, flaw string) {
	if kind == "cidr" {
		size = strings.IndexAny(text, space)
		if size < 0 {
			size = len(text)
		}
		x.net, flaw = parseNetwork(text[:size])
		return size, flaw
	}
	if text == "" || nameLength(text[:1]) > 0 {
		return 0, "is no expression between slashes"
	}
	end := 1
	for ; end < len(text) && text[end] != text[0]; end++ {
		if text[end] == '\\' {
			end++
		}
	}
	if end >= len(text) {
		return 0, "has no end of its expression"
	}
	size = end + 1
	for size < len(text) && strings.IndexByte(space, text[size]) < 0 {
		size++
	}
	return size, x.compile(kind, text[1:end], text[end+1:size])
}

// compile makes Go's expression of Postfix's. Both kinds ignore case unless
// told; a flag turns over what is so by default.
func (x *test) compile(kind, expression, options string) (flaw string) {
	on := map[byte]bool{'i': true, 's': true}
	known := "imsxAEUX"
	if kind == "regexp" {
		on['x'] = true
		known = "imx"
	}
	for i := range len(options) {
		if strings.IndexByte(known, options[i]) < 0 {
			return "has the unknown option " + options[i:i+1]
		}
		on[options[i]] = !on[options[i]]
	}
	if on['x'] != (kind == "regexp") {
		x.unread = "its expressions of the other syntax cannot be tried"
		return ""
	}
	flags := ""
	for _, f := range []byte("ims") {
		if on[f] {
			flags += string(f)
		}
	}
	if on['A'] {
		expression = `\A(?:` + expression + ")"
	}
	if flags != "" {
		expression = "(?" + flags + ")" + expression
	}
	var err error
	if x.match, err = regexp.Compile(expression); err != nil {
		x.unread = "the expression " + expression + " cannot be tried here"
		return ""
	}
	if tree, err := syntax.Parse(expression, syntax.Perl); err == nil {
		x.sources = sample(tree.Simplify())
	}
	return ""
}

// maxSamples bounds the texts that one expression is tried with.
const maxSamples = 24

// sample returns a few texts that an expression matches: of each choice all
// ways, of what may be there or not both.
func sample(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}
	case syntax.OpCharClass:
		return []string{string(member(re.Rune))}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"x", "."}
	case syntax.OpCapture, syntax.OpPlus:
		return sample(re.Sub[0])
	case syntax.OpStar, syntax.OpQuest:
		return append([]string{""}, sample(re.Sub[0])...)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			all = append(all, sample(sub)...)
		}
		return all[:min(len(all), maxSamples)]
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			var longer []string
			for _, tail := range sample(sub) {
				for _, head := range all {
					longer = append(longer, head+tail)
				}
			}
			all = longer[:min(len(longer), maxSamples)]
		}
		return all
	case syntax.OpNoMatch, syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary, syntax.OpRepeat: // a place; the last is gone when simplified
	}
	return []string{""}
}

// member returns a character of a class that a name or an address may have.
func member(ranges []rune) rune {
	for _, want := range "xae0.@-" {
		for i := 0; i+1 < len(ranges); i += 2 {
			if ranges[i] <= want && want <= ranges[i+1] {
				return want
			}
		}
	}
	if len(ranges) == 0 {
		return 'x'
	}
	return ranges[0]
}
