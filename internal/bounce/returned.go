package bounce

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"

	"postern/mail"
)

// A returned is what was read of the message.
type returned struct {
	section []byte      // the header section, CRLF line ends, no empty line
	header  mail.Header // the same
	whole   []byte      // the message, when it can be returned as it is
}

// maxSection is how much of a header section is returned.
const maxSection = 64 << 10

// maxLine is the longest line of a message without CRLF (RFC 5322 section 2.1.1).
const maxLine = 998

func (n Notice) read(original io.Reader) (returned, error) {
	limit := n.FullLimit
	if limit == 0 {
		limit = DefaultFullLimit
	}
	// RFC 3461 section 4.3: a notice that tells of no failure returns the
	// header section only.
	full := n.Ret == mail.RetFull && n.Kind == Failed && limit > 0
	most := maxSection
	if full {
		most = max(most, limit)
	}
	b, err := io.ReadAll(io.LimitReader(original, int64(most)+1))
	if err != nil {
		return returned{}, err
	}
	o := returned{section: section(b)}
	o.header = mail.ParseHeader(o.section)
	if full && len(b) <= limit && isText(b) {
		o.whole = b
	}
	return o, nil
}

// section returns the header section with CRLF line ends and no control
// characters. It ends before what can be no field, and one that is too long
// after a whole line.
func section(b []byte) []byte {
	cut := len(b) > maxSection
	var out []byte
	for len(b) > 0 && len(out) < maxSection {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if !ended && cut || !isField(line, len(out) > 0) {
			break
		}
		for _, c := range line {
			if c < ' ' && c != '\t' || c == 0x7f {
				c = '?'
			}
			out = append(out, c)
		}
		out = append(out, '\r', '\n')
		b = rest
	}
	return out
}

func isField(line []byte, continues bool) bool {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return continues
	}
	name, _, ok := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	return ok && len(name) > 0 && bytes.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

// isText reports whether b can be a part as it is: CRLF line ends, no line too
// long, no NUL.
func isText(b []byte) bool {
	if !bytes.HasSuffix(b, []byte("\r\n")) || bytes.IndexByte(b, 0) >= 0 {
		return false
	}
	for line := range bytes.SplitSeq(b, []byte("\r\n")) {
		if len(line) > maxLine || bytes.ContainsAny(line, "\r\n") {
			return false
		}
	}
	return true
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// third is the part that shows the message.
func (n Notice) third(o returned) part {
	international := n.UTF8 && !isASCII(o.section) && utf8.Valid(o.section)
	if o.whole != nil {
		p := part{kind: "message/rfc822", encoding: "7bit", text: o.whole}
		if international {
			p.kind, p.global = "message/global", true
		}
		if !isASCII(o.whole) {
			p.encoding = "8bit"
		}
		return p
	}
	// RFC 6522 section 4 and RFC 6533 section 6 allow quoted-printable for
	// what is no seven-bit text, and any server takes that.
	p := encode("text/rfc822-headers", o.section)
	if international {
		p.kind = "message/global-headers"
	}
	return p
}

// encode makes a part of a text with CRLF line ends: as it is where it can be.
func encode(kind string, text []byte) part {
	if isASCII(text) && (len(text) == 0 || isText(text)) {
		return part{kind: kind, encoding: "7bit", text: text}
	}
	var b bytes.Buffer
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write(text) // a buffer takes all
	_ = q.Close()
	return part{kind: kind, encoding: "quoted-printable", text: b.Bytes()}
}

// visible shows what a stranger wrote on one line: what is not printed is
// written as an escape, and without utf8 all that is not ASCII too.
func visible(s string, utf8 bool) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := decode(s[i:])
		switch {
		case r == invalid:
			b.WriteString(escapeByte(s[i]))
		case r < 0x80 && r >= ' ' && r != 0x7f, r >= 0x80 && utf8 && printable(r):
			b.WriteString(s[i : i+size])
		default:
			b.WriteString(escapeRune(r))
		}
		i += size
	}
	return b.String()
}
