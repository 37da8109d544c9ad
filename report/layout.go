package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// width is the terminal that everything fits into, where it can: a line to
	// paste is never broken.
	width  = 80
	indent = "           " // what stands below a label
)

// A layout writes labelled paragraphs with a hanging indent. Its first error
// stays and stops it.
type layout struct {
	w   io.Writer
	err error
}

func (l *layout) line(s string) {
	if l.err == nil {
		_, l.err = io.WriteString(l.w, strings.TrimRight(s, " ")+"\n")
	}
}

// part writes a label and its text, folded. An empty text writes nothing.
func (l *layout) part(label, text string) {
	if text != "" {
		l.hang(fmt.Sprintf("  %-8s ", label), text, indent)
	}
}

// hang writes text behind a first margin, and the lines that follow behind
// another.
func (l *layout) hang(first, text, rest string) {
	for _, s := range fold(visible(text), width-utf8.RuneCountInString(first), width-len(rest)) {
		l.line(first + s)
		first = rest
	}
}

// item writes a step behind its mark, and the lines to paste for it: behind the
// text where they fit, else below.
func (l *layout) item(label, mark, text, command string) {
	if mark != "" {
		mark += " "
	}
	first := fmt.Sprintf("  %-8s %s", label, mark)
	rest := indent + strings.Repeat(" ", len(mark))
	lines := fold(visible(text), width-len(first), width-len(rest))
	last := len(lines) - 1
	room := width - len(rest) - 2 - utf8.RuneCountInString(lines[last])
	if command != "" && !strings.Contains(command, "\n") && utf8.RuneCountInString(command) <= room {
		lines[last] += "  " + whole(command)
		command = ""
	}
	for _, s := range lines {
		l.line(first + s)
		first = rest
	}
	if command == "" {
		return
	}
	for _, c := range strings.Split(command, "\n") {
		l.line(rest + "  " + whole(c))
	}
}

// fold breaks text between words into lines of at most first and then rest
// letters; a word that is longer stands alone.
func fold(text string, first, rest int) []string {
	var lines []string
	line, room := "", first
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room {
			lines = append(lines, line)
			line, room = "", rest
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
