package remedy

import (
	"errors"
	"fmt"
	"strings"
)

// parseManual reads a file of this shape, and nothing else:
//
//	# Title
//
//	inside: postfix
//
//	## hole, another hole
//
//	A paragraph is the text of a step.
//
//	```
//	the lines to paste for it
//	```
//
// The line "inside" may be missing, a step may have no lines.
func parseManual(file, text string) (manual, error) {
	p := &manualParser{file: file, manual: manual{sections: map[string][]Step{}}}
	for i, line := range strings.Split(text, "\n") {
		p.number = i + 1
		p.line(line)
	}
	if p.fenced {
		p.fault("the code block has no end")
	}
	p.endParagraph()
	p.endSection()
	if p.manual.title == "" {
		p.fault("no title; begin with # and the name of the software")
	}
	return p.manual, errors.Join(p.errs...)
}

type manualParser struct {
	file      string
	number    int
	manual    manual
	keys      []string // of the section that is being read
	steps     []Step
	paragraph []string
	code      []string
	fenced    bool
	errs      []error
}

func (p *manualParser) fault(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %s", p.file, p.number, fmt.Sprintf(format, args...)))
}

func (p *manualParser) line(line string) {
	switch {
	case strings.HasPrefix(line, "```"):
		p.fence()
	case p.fenced:
		p.code = append(p.code, line)
	case strings.HasPrefix(line, "## "):
		p.endParagraph()
		p.endSection()
		p.heading(line[3:])
	case strings.HasPrefix(line, "# "):
		if p.manual.title != "" {
			p.fault("a second title")
		}
		p.manual.title = line[2:]
	case strings.HasPrefix(line, "inside: ") && p.keys == nil:
		p.manual.inside = strings.TrimPrefix(line, "inside: ")
	case strings.TrimSpace(line) == "":
		p.endParagraph()
	case p.keys == nil:
		p.fault("text before the first section")
	default:
		p.paragraph = append(p.paragraph, strings.TrimSpace(line))
	}
}

func (p *manualParser) fence() {
	p.fenced = !p.fenced
	if p.fenced {
		p.endParagraph()
		p.code = nil
		return
	}
	if len(p.steps) == 0 || p.steps[len(p.steps)-1].Command != "" {
		p.fault("a code block without a sentence before it that says what it does")
		return
	}
	if len(p.code) == 0 {
		p.fault("an empty code block")
	}
	p.steps[len(p.steps)-1].Command = strings.Join(p.code, "\n")
}

func (p *manualParser) heading(text string) {
	p.manual.order = append(p.manual.order, text)
	for _, key := range strings.Split(text, ",") {
		key = strings.TrimSpace(key)
		if !knownKey(key) {
			p.fault("unknown hole %q; the holes are in plan/holes.tsv, the other keys in library.go", key)
		}
		if _, twice := p.manual.sections[key]; twice {
			p.fault("a second section for %q", key)
		}
		p.keys = append(p.keys, key)
	}
}

func (p *manualParser) endParagraph() {
	if len(p.paragraph) == 0 {
		return
	}
	p.steps = append(p.steps, Step{Text: strings.Join(p.paragraph, " ")})
	p.paragraph = nil
}

func (p *manualParser) endSection() {
	if p.keys != nil && len(p.steps) == 0 {
		p.fault("section %q is empty", strings.Join(p.keys, ", "))
	}
	for _, key := range p.keys {
		p.manual.sections[key] = p.steps
	}
	p.keys, p.steps = nil, nil
}
