package guard

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"postern/mail"
)

// A field is one header field as it came, with its line ends. What is not
// touched goes out as it came in, so that signatures hold.
type field struct{ raw []byte }

func (f field) name() string {
	name, _, _ := bytes.Cut(f.raw, []byte(":"))
	return strings.TrimRight(string(name), " \t")
}

func (f field) is(name string) bool { return strings.EqualFold(f.name(), name) }

// body returns what follows the colon, unfolded (RFC 5322 section 2.2.3).
func (f field) body() string {
	_, body, _ := bytes.Cut(f.raw, []byte(":"))
	return strings.TrimSpace(strings.ReplaceAll(string(body), "\r\n", ""))
}

func count(f []field, name string) int {
	n := 0
	for _, each := range f {
		if each.is(name) {
			n++
		}
	}
	return n
}

var errHeaderLong = errors.New("the header section is too long")

// headRoom is how much of a message is looked at for what stands before its
// first field; the engine takes no line that is longer.
const headRoom = 4096

// cutHeader reads the header section of a message, up to the empty line, which
// is taken off, or to the first line that can belong to no header: a message
// without one is all body. What a program left before the first field, see
// mail.CutMailboxLine, is passed over. rest is what follows. grow is asked for
// memory for each step beyond the first one, and may say no.
func cutHeader(r io.Reader, most int, grow func() bool) (header []byte, rest io.Reader, err error) {
	b := bufio.NewReaderSize(r, headRoom)
	head, _ := b.Peek(headRoom)                                  // an error is met again below
	_, _ = b.Discard(len(head) - len(mail.CutMailboxLine(head))) // it was seen
	var h bytes.Buffer
	for room := headerStep; ; {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, nil, errHeaderLong // the engine takes no line that long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		switch {
		case len(line) == 0, string(line) == "\r\n":
			return h.Bytes(), b, nil
		case !continues(line, h.Len() > 0) && !begins(line):
			return h.Bytes(), io.MultiReader(bytes.NewReader(bytes.Clone(line)), b), nil
		}
		if h.Len()+len(line) > most {
			return nil, nil, errHeaderLong
		}
		if h.Len()+len(line) > room {
			if !grow() {
				return nil, nil, errShort
			}
			room += headerStep
		}
		h.Write(line)
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			h.WriteString("\r\n") // the last line of a message that ends in its header
		}
	}
}

func continues(line []byte, inside bool) bool { return inside && (line[0] == ' ' || line[0] == '\t') }

// begins reports whether the line begins a field: a name of printing
// characters and a colon (RFC 5322 section 2.2).
func begins(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	return ok && len(name) > 0 && bytes.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

// fields parts a header section into its fields.
func fields(header []byte) []field {
	var list []field
	for len(header) > 0 {
		end := bytes.IndexByte(header, '\n') + 1
		for end > 0 && end < len(header) && (header[end] == ' ' || header[end] == '\t') {
			next := bytes.IndexByte(header[end:], '\n') + 1
			if next == 0 {
				end = 0
				break
			}
			end += next
		}
		if end == 0 {
			end = len(header)
		}
		list = append(list, field{raw: header[:end:end]})
		header = header[end:]
	}
	return list
}
