package transcript

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// String returns the conversation as text; see WriteTo.
func (t *Transcript) String() string {
	var b strings.Builder
	_, _ = t.WriteTo(&b) // a Builder never fails
	return b.String()
}

// WriteTo writes the conversation as text, a line for each line that passed.
// The margin is that of swaks: " -> " sent, "<-  " received, " ~> " and
// "<~  " the same inside TLS, "*** " a note. A line ends in CRLF unless it
// shows "\n" (a bare LF), and a segment that ended within a line shows "\c".
// Other control characters, and what is no UTF-8, stand as escapes.
func (t *Transcript) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for _, e := range t.Entries() {
		n, err := io.WriteString(w, e.String())
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	if d := t.Dropped(); d > 0 {
		n, err := fmt.Fprintf(w, "*** %d more bytes were not kept\n", d)
		return written + int64(n), err
	}
	return written, nil
}

// String returns the entry as text, each line with its margin and "\n".
func (e Entry) String() string {
	var b strings.Builder
	if e.Dir == Note {
		b.WriteString("*** ")
		escape(&b, e.Bytes)
		b.WriteByte('\n')
		return b.String()
	}
	for line := range bytes.Lines(e.Bytes) {
		b.WriteString(e.margin())
		text, crlf := bytes.CutSuffix(line, []byte("\r\n"))
		escape(&b, text)
		if !crlf && !bytes.HasSuffix(line, []byte("\n")) {
			b.WriteString(`\c`)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (e Entry) margin() string {
	switch {
	case e.Dir == Sent && e.TLS:
		return " ~> "
	case e.Dir == Sent:
		return " -> "
	case e.TLS:
		return "<~  "
	}
	return "<-  "
}

// escape writes p so that it can neither move a terminal's cursor nor turn its
// text round; the backslash itself is doubled, so that nothing is ambiguous.
func escape(b *strings.Builder, p []byte) {
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(b, `\x%02x`, p[0])
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80 && !unicode.IsPrint(r):
			fmt.Fprintf(b, `\x%02x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
		p = p[n:]
	}
}
