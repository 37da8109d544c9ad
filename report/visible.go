package report

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longest is how many letters of one text of a server's are shown; the
// conversation holds the rest.
const longest = 400

// visible returns text that a stranger may have written so that it can neither
// move a terminal's cursor, turn the writing round, nor pass for a line of
// ours: what does not print stands as an escape, and what is too long is cut.
func visible(s string) string { return escape(s, longest) }

// whole is visible without the cut: a line to paste is ours and must be whole.
func whole(s string) string { return escape(s, math.MaxInt) }

func escape(s string, most int) string {
	var b strings.Builder
	n := 0
	for i, r := range s {
		if n++; n > most {
			b.WriteString("…")
			break
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
