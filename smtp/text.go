package smtp

import "bytes"

// A text reads the text of a message as it comes over the wire: it finds its
// end (after DATA), takes out the dots that the client put in (RFC 5321
// section 4.5.2), and holds each line to the policy. It works on windows of
// any cut and keeps no reference to them.
type text struct {
	lines   LineEnds
	dots    bool // after DATA; a chunk of BDAT has its length instead
	maxLine int  // without CRLF; negative: any
	lenient bool // only the end is looked for: the message has failed

	inLine bool // the next octet is not the first of a line
	heldCR bool // a CR was read and not yet handed on
	length int  // of the line so far
	line   int  // how many lines have ended
}

// A finding is what made a scan stop.
type finding uint8

const (
	clean finding = iota // out is to be handed on
	short                // more octets are needed to tell
	ended                // the end of the message was read
	bare                 // a CR or LF stood alone
	long                 // a line is longer than allowed
)

var crlf, space, cr = []byte("\r\n"), []byte(" "), []byte("\r")

// scan reads from the start of b and returns how many octets it used and what
// they mean, which is a part of b or a constant.
func (t *text) scan(b []byte) (used int, out []byte, f finding) {
	if len(b) == 0 {
		return 0, nil, short
	}
	if t.heldCR {
		return t.afterCR(b)
	}
	if !t.inLine && t.dots && b[0] == '.' {
		return t.afterDot(b)
	}
	n := 0
	for n < len(b) {
		if !t.inLine && t.dots && b[n] == '.' {
			break
		}
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			m, f := t.partial(b[n:])
			if n += m; n == 0 {
				return t.odd(b, f)
			}
			return n + t.hold(b[n:]), b[:n], clean
		}
		end := bytes.IndexByte(b[n:n+i+1], '\r')
		if end != i-1 || end < 0 || t.tooLong(end) {
			if n == 0 {
				return t.oddLine(b, i, end)
			}
			break
		}
		n += i + 1
		t.endLine()
	}
	return n, b[:n], clean
}

func (t *text) endLine() {
	t.inLine, t.length = false, 0
	t.line++
}

func (t *text) tooLong(n int) bool { return !t.lenient && over(t.length+n, t.maxLine) }

// partial passes over the start of a line whose end is not in b, up to a CR.
func (t *text) partial(b []byte) (int, finding) {
	n := bytes.IndexByte(b, '\r')
	if n < 0 {
		n = len(b)
	}
	if t.tooLong(n) {
		return 0, long
	}
	if n > 0 {
		t.inLine = true
		t.length += n
	}
	return n, clean
}

// hold takes a CR at the start of b: what follows it decides what it is.
func (t *text) hold(b []byte) int {
	if len(b) == 0 || b[0] != '\r' {
		return 0
	}
	t.heldCR = true
	return 1
}

// odd handles the start of a line that is too long or begins with a CR.
func (t *text) odd(b []byte, f finding) (int, []byte, finding) {
	if f == long {
		return 0, nil, long
	}
	return t.hold(b), nil, clean
}

// oddLine handles a whole line that is not as it should be: its LF is at i,
// its first CR at end, or -1.
func (t *text) oddLine(b []byte, i, end int) (int, []byte, finding) {
	switch {
	case end >= 0 && end < i:
		if t.tooLong(end) {
			return 0, nil, long
		}
		if end > 0 {
			t.inLine = true
			t.length += end
		}
		t.heldCR = true
		return end + 1, b[:end], clean
	case t.tooLong(i):
		return 0, nil, long
	case i > 0: // the line first, its bare LF at the next call
		t.inLine = true
		t.length += i
		return i, b[:i], clean
	}
	return t.bareLF()
}

// bareLF handles an LF without CR.
func (t *text) bareLF() (int, []byte, finding) {
	switch {
	case t.lines == CarelessLines:
		t.endLine()
	case t.lenient:
		t.inLine = true
		return 1, nil, clean
	case t.lines == StrictLines:
		return 0, nil, bare
	default:
		t.endLine()
		// Only a client that takes LF for a line end would have doubled a
		// dot that follows it, and only such a server would end the message
		// there. We do neither.
		t.inLine = true
	}
	return 1, crlf, clean
}

// afterCR decides what a CR was by the octet after it.
func (t *text) afterCR(b []byte) (int, []byte, finding) {
	switch {
	case b[0] == '\n':
		t.heldCR = false
		t.endLine()
		return 1, crlf, clean
	case t.lenient:
		t.heldCR, t.inLine = false, true
		return 0, nil, clean
	case t.lines == StrictLines:
		return 0, nil, bare
	}
	t.heldCR, t.inLine = false, true
	t.length++
	if t.lines == NormaliseLines {
		return 0, space, clean
	}
	return 0, cr, clean
}

// afterDot decides what a dot at the start of a line is.
func (t *text) afterDot(b []byte) (int, []byte, finding) {
	switch {
	case len(b) == 1, len(b) == 2 && b[1] == '\r':
		return 0, nil, short
	case b[1] == '\r' && b[2] == '\n':
		return 3, nil, ended
	case b[1] == '\n' && t.lines == CarelessLines:
		return 2, nil, ended
	}
	t.inLine = true
	return 1, nil, clean
}

// refusesNUL reports whether a NUL is an error, until the message has failed.
func (t *text) refusesNUL() bool { return t.lines == StrictLines && !t.lenient }

// finish is called at the end of the last chunk.
func (t *text) finish() finding {
	if t.heldCR && !t.lenient {
		if t.lines == StrictLines {
			return bare
		}
		t.heldCR = false
	}
	return ended
}
