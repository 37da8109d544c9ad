package bounce

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"postern/mail"
)

//go:embed replies.tsv
var repliesTSV string

// Classify says why a message was not taken: from the reply, and from what we
// noted ourselves (the text of an error) where there is none or it says
// nothing. It never fails; what it does not know is Unknown.
func Classify(r mail.Reply, note string) Class {
	class, _ := classify(rules(), r, note)
	return class
}

// classify also returns the line of the rule, 0 for none.
func classify(rules []rule, r mail.Reply, note string) (Class, int) {
	if !r.IsZero() {
		text := plain(r.Text())
		for i := range rules {
			if rules[i].takes(r, text) {
				if rules[i].class == Unknown && note != "" {
					break
				}
				return rules[i].class, rules[i].line
			}
		}
	}
	if note = plain(note); note != "" {
		for i := range rules {
			if rules[i].note && rules[i].text.MatchString(note) {
				return rules[i].class, rules[i].line
			}
		}
	}
	return Unknown, 0
}

// maxText is how much of a reply is looked at; what a server says first is
// what it means, and the rest may be pages of advice.
const maxText = 2048

var anAddress = regexp.MustCompile(`<?[^\s<>@()\[\]]+@[^\s<>@()\[\],;:]+>?`)

// plain takes out the addresses, since <spam@d.example> says nothing of spam,
// and the case.
func plain(s string) string {
	s = s[:min(len(s), maxText)]
	return strings.TrimSpace(strings.ToLower(anAddress.ReplaceAllString(s, "<@>")))
}

// A rule is one line of replies.tsv.
type rule struct {
	line     int
	class    Class
	note     bool     // about a note, not a reply
	codes    []string // "5xx"
	enhanced []string // "x", "1", "10"; nil is any code or none
	text     *regexp.Regexp
	example  string
	source   string
}

func (u *rule) takes(r mail.Reply, text string) bool {
	if u.note || !u.takesCode(r.Code) {
		return false
	}
	if u.enhanced != nil {
		for i, n := range []uint16{r.Enhanced.Class, r.Enhanced.Subject, r.Enhanced.Detail} {
			if r.Enhanced == (mail.EnhancedCode{}) || u.enhanced[i] != "x" && u.enhanced[i] != strconv.Itoa(int(n)) {
				return false
			}
		}
	}
	return u.text == nil || u.text.MatchString(text)
}

func (u *rule) takesCode(code int) bool {
	digits := strconv.Itoa(code)
	for _, pattern := range u.codes {
		same := len(digits) == len(pattern)
		for i := 0; same && i < len(pattern); i++ {
			same = pattern[i] == 'x' || pattern[i] == digits[i]
		}
		if same {
			return true
		}
	}
	return false
}

// rules are read once. The table is part of the program; a fault in it is a
// broken build, found by its test.
var rules = sync.OnceValue(func() []rule {
	list, err := parseRules("replies.tsv", repliesTSV)
	if err != nil {
		panic(err)
	}
	return list
})

func parseRules(file, text string) ([]rule, error) {
	var list []rule
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		u, err := parseRule(strings.Split(line, "\t"))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		u.line = i + 1
		list = append(list, u)
	}
	return list, nil
}

var (
	codePattern     = regexp.MustCompile(`^([245x][0-9x]{2})(,[245x][0-9x]{2})*$`)
	escape          = regexp.MustCompile(`\\.`)
	enhancedPattern = regexp.MustCompile(`^[45x]\.(x|[0-9]{1,3})\.(x|[0-9]{1,3})$`)
)

func parseRule(cells []string) (rule, error) {
	if len(cells) != 6 {
		return rule{}, fmt.Errorf("%d cells; a rule has 6: class, code, enhanced, text, example, source", len(cells))
	}
	u := rule{example: cells[4], source: cells[5]}
	if u.example == "" || u.source == "" {
		return rule{}, fmt.Errorf("a rule needs an example and a source")
	}
	found := false
	for c := range classes {
		if c.String() == cells[0] {
			u.class, found = c, true
		}
	}
	if !found {
		return rule{}, fmt.Errorf("unknown class %q; the classes stand in class.go", cells[0])
	}
	switch {
	case cells[1] == "note":
		u.note = true
		if cells[2] != "-" || cells[3] == "-" {
			return rule{}, fmt.Errorf("a note has a text and no enhanced code")
		}
	case !codePattern.MatchString(cells[1]):
		return rule{}, fmt.Errorf("code %q; write digits and x, as 5xx, or note", cells[1])
	default:
		u.codes = strings.Split(cells[1], ",")
	}
	switch {
	case cells[2] == "-":
	case !enhancedPattern.MatchString(cells[2]):
		return rule{}, fmt.Errorf("enhanced code %q; write numbers and x, as x.1.1, or -", cells[2])
	default:
		u.enhanced = strings.Split(cells[2], ".")
	}
	if cells[3] == "-" {
		return u, nil
	}
	if bare := escape.ReplaceAllString(cells[3], ""); bare != strings.ToLower(bare) {
		return rule{}, fmt.Errorf("text %q; write it in lower case, as the reply is read", cells[3])
	}
	var err error
	if u.text, err = regexp.Compile(cells[3]); err != nil {
		return rule{}, fmt.Errorf("text: %w", err)
	}
	return u, nil
}
