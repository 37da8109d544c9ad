package mail

import (
	"bytes"
	"strings"
)

// A Field is one header field, unfolded: line ends inside the body are gone,
// the white space that followed them stays (RFC 5322 section 2.2.3).
type Field struct{ Name, Body string }

// A Header is the header section of a message, in its order: the topmost
// trace field first.
type Header []Field

// ParseHeader reads the header section at the start of a message, up to the
// empty line or the first line that can belong to no header; what stands before
// the first field, see CutMailboxLine, is passed over. It takes CRLF
// and LF line ends, since what arrived may have passed through anything.
func ParseHeader(b []byte) Header {
	var h Header
	b = CutMailboxLine(b)
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(h) > 0 {
				h[len(h)-1].Body += string(line)
			}
			continue
		}
		name, body, ok := strings.Cut(string(line), ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !isFieldName(name) {
			break
		}
		h = append(h, Field{Name: name, Body: strings.TrimLeft(body, " \t")})
	}
	return h
}

// CutMailboxLine returns a message without what programs leave before its first
// field: a byte order mark, and the line that parts messages in a mailbox file
// (RFC 4155), with the ">" that quotes it in a text. A message that has no field
// behind them is all text, and comes back as it is.
func CutMailboxLine(b []byte) []byte {
	rest := bytes.TrimPrefix(b, byteOrderMark)
	if bytes.HasPrefix(bytes.TrimLeft(rest, ">"), []byte("From ")) {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
		rest = bytes.TrimPrefix(rest, byteOrderMark)
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	name, _, ok := strings.Cut(string(line), ":")
	if !ok || !isFieldName(strings.TrimRight(name, " \t")) {
		return b
	}
	return rest
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func isFieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// Get returns the body of the first field of that name, in any case, or "".
func (h Header) Get(name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Body
		}
	}
	return ""
}

// All returns the bodies of all fields of that name, topmost first.
func (h Header) All(name string) []string {
	var all []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			all = append(all, f.Body)
		}
	}
	return all
}
