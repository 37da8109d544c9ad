package mail

import (
	"fmt"
	"strconv"
)

// A SyntaxError says where a text stops being what it should be.
type SyntaxError struct {
	Text string // the text as given
	At   int    // byte offset of the first byte that does not fit, from 0
	What string // what is wrong there
}

func (e *SyntaxError) Error() string {
	text := e.Text
	if len(text) > 80 {
		text = text[:80] + "..."
	}
	return fmt.Sprintf("%s at character %d: %s", strconv.QuoteToASCII(text), e.At+1, e.What)
}

// A cursor walks over one text; every parser of the package is built on it.
type cursor struct {
	text string
	at   int
}

func (c *cursor) fail(what string) error { return &SyntaxError{Text: c.text, At: c.at, What: what} }
func (c *cursor) rest() string           { return c.text[c.at:] }
func (c *cursor) done() bool             { return c.at >= len(c.text) }

// peek returns the next byte, or 0 at the end; NUL is valid nowhere, so the
// two need not be told apart.
func (c *cursor) peek() byte {
	if c.done() {
		return 0
	}
	return c.text[c.at]
}

func (c *cursor) accept(b byte) bool {
	if c.done() || c.text[c.at] != b {
		return false
	}
	c.at++
	return true
}

func (c *cursor) end() error {
	if !c.done() {
		return c.fail("nothing may follow here")
	}
	return nil
}

func isAlnum(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

func isControl(b byte) bool { return b < ' ' || b == 0x7f }

// isAtext reports whether b may stand in an atom (RFC 5322 section 3.2.3);
// bytes above 0x7f are UTF-8 and were checked as such (RFC 6531 section 3.3).
func isAtext(b byte) bool {
	switch b {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '/', '=', '?', '^', '_', '`', '{', '|', '}', '~':
		return true
	}
	return isAlnum(b) || b >= 0x80
}
