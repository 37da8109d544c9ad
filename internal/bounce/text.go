package bounce

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// invalid is what decode returns for an octet that begins no character.
const invalid rune = -1

func decode(s string) (rune, int) {
	r, size := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && size <= 1 {
		return invalid, 1
	}
	return r, size
}

// printable leaves out what changes the order or the place of other
// characters (U+202E and its kin): a peer must not seem to say what it did not.
func printable(r rune) bool { return unicode.IsPrint(r) }

func escapeByte(c byte) string { return fmt.Sprintf(`\x%02x`, c) }

func escapeRune(r rune) string {
	switch {
	case r == '\t':
		return " "
	case r < 0x80:
		return escapeByte(byte(r))
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// shorten cuts s to n octets, between characters, and shows that it did.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + " [...]"
}

// wrap breaks s into lines of at most n octets, at spaces where there are any.
func wrap(s string, n int) []string {
	var lines []string
	for len(s) > n {
		at := strings.LastIndexByte(s[:n+1], ' ')
		if at <= 0 {
			at = n
			for at > 1 && !utf8.RuneStart(s[at]) {
				at--
			}
		}
		lines = append(lines, strings.TrimRight(s[:at], " "))
		s = strings.TrimLeft(s[at:], " ")
	}
	if s != "" || len(lines) == 0 {
		lines = append(lines, s)
	}
	return lines
}
