package main

import (
	"bytes"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// columns is how wide a terminal is taken to be, in columns.
const columns = 80

// A table is rows of cells in columns. What does not fit on a screen goes on
// below the beginning of the last column.
type table struct {
	w    io.Writer
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// flush writes the rows.
func (t *table) flush() error {
	var b bytes.Buffer
	aligned := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, cells := range t.rows {
		if _, err := io.WriteString(aligned, strings.Join(cells, "\t")+"\n"); err != nil {
			return err
		}
	}
	if err := aligned.Flush(); err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, " \n")
		last := t.rows[n][len(t.rows[n])-1]
		n++
		at := utf8.RuneCountInString(strings.TrimSuffix(line, last))
		if _, err := io.WriteString(t.w, hanging(line, at)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// hanging breaks a line between words where it is wider than a screen; what
// follows stands below the column at.
func hanging(line string, at int) string {
	var b strings.Builder
	for utf8.RuneCountInString(line) > columns {
		runes := []rune(line)
		cut := strings.LastIndex(string(runes[:columns+1]), " ")
		if cut <= at {
			break // one word wider than all that is left
		}
		b.WriteString(strings.TrimRight(line[:cut], " ") + "\n")
		line = strings.Repeat(" ", at) + strings.TrimLeft(line[cut:], " ")
	}
	b.WriteString(line)
	return b.String()
}
