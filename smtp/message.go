package smtp

import (
	"bytes"
	"fmt"
	"io"
)

// A message is a body on its way out. It goes through one pooled buffer, and
// each line of it is held to CRLF: what we would let pass here, another server
// could read as two messages.
type message struct {
	body io.Reader
	size int64  // known by measure
	head []byte // read ahead by measure, at the start of a pooled buffer
	text text

	beforeEnd func() error // called before the last octets are written
}

// measure finds the length if the body tells it or fits one buffer.
func (m *message) measure() (known bool, err error) {
	m.text = text{maxLine: -1}
	// Len first: where a reader has both, Size may count what was read already.
	if b, ok := m.body.(interface{ Len() int }); ok {
		m.size = int64(b.Len())
		return true, nil
	}
	if b, ok := m.body.(interface{ Size() int64 }); ok {
		if m.size = b.Size(); m.size >= 0 {
			return true, nil
		}
	}
	buf := getBuffer(largeBuffer)
	m.head = buf[:0]
	for len(m.head) < len(buf) {
		n, err := m.body.Read(buf[len(m.head):])
		m.head = buf[:len(m.head)+n]
		if isEnd(err) {
			m.size = int64(len(m.head))
			m.body = nil
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("read message: %w", err)
		}
	}
	return false, nil
}

// isEnd reports the end of a message. io.EOF itself alone is one: an error
// that wraps it, or io.ErrUnexpectedEOF, is what a source says that was cut off.
func isEnd(err error) bool { return err == io.EOF } //nolint:errorlint // see above

func (m *message) release() {
	if m.head != nil {
		putBuffer(m.head)
		m.head = nil
	}
}

// read returns the next octets, in b or in what was read ahead; io.EOF at the end.
func (m *message) read(b []byte) ([]byte, error) {
	if len(m.head) > 0 {
		p := m.head
		m.head = m.head[:0]
		return p, nil
	}
	if m.body == nil {
		return nil, io.EOF
	}
	n, err := m.body.Read(b)
	if n > 0 || err == nil {
		return b[:n], nil
	}
	if isEnd(err) {
		return nil, io.EOF
	}
	return nil, fmt.Errorf("read message: %w", err)
}

// chunk writes head and the whole body, which must have the measured size.
func (m *message) chunk(head []byte, write func([]byte) error) error {
	in, out := getBuffer(largeBuffer), getBuffer(largeBuffer)[:0]
	defer func() { putBuffer(in); putBuffer(out) }()
	out = append(out, head...)
	var sent int64
	for {
		p, err := m.read(in)
		if isEnd(err) {
			break
		}
		if err != nil {
			return err
		}
		if err := m.check(p); err != nil {
			return err
		}
		if sent += int64(len(p)); sent > m.size {
			break
		}
		if out, err = collect(out, p, write); err != nil {
			return err
		}
	}
	if m.text.finish() == bare {
		return fmt.Errorf("line %d: %w", m.text.line+1, ErrBareLine)
	}
	if sent != m.size {
		return fmt.Errorf("the message has not the %d octets that it said", m.size)
	}
	if err := m.beforeEnd(); err != nil {
		return err
	}
	return write(out)
}

// collect appends p to out and writes what does not fit.
func collect(out, p []byte, write func([]byte) error) ([]byte, error) {
	for len(p) > 0 {
		if len(out) == cap(out) {
			if err := write(out); err != nil {
				return out[:0], err
			}
			out = out[:0]
		}
		n := min(len(p), cap(out)-len(out))
		out = append(out, p[:n]...)
		p = p[n:]
	}
	return out, nil
}

// check holds p to CRLF, and to octets that mail can carry.
func (m *message) check(p []byte) error {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		return fmt.Errorf("line %d: %w", m.text.line+bytes.Count(p[:i], crlf[1:])+1, ErrNUL)
	}
	for len(p) > 0 {
		used, _, f := m.text.scan(p)
		if f == bare {
			return fmt.Errorf("line %d: %w", m.text.line+1, ErrBareLine)
		}
		p = p[used:]
	}
	return nil
}

// stuffed writes the body for DATA: a dot before each line that begins with
// one, CRLF at the end where it lacks, and the final dot (RFC 5321 section 4.5.2).
func (m *message) stuffed(write func([]byte) error) error {
	m.text = text{maxLine: -1}
	in, out := getBuffer(largeBuffer), getBuffer(largeBuffer)[:0]
	defer func() { putBuffer(in); putBuffer(out) }()
	atStart := true
	for {
		p, err := m.read(in)
		if isEnd(err) {
			break
		}
		if err != nil {
			return err
		}
		if err := m.check(p); err != nil {
			return err
		}
		for len(p) > 0 {
			line := p
			if i := bytes.IndexByte(p, '\n'); i >= 0 {
				line = p[:i+1]
			}
			if atStart && line[0] == '.' {
				if out, err = collect(out, line[:1], write); err != nil {
					return err
				}
			}
			if out, err = collect(out, line, write); err != nil {
				return err
			}
			atStart = line[len(line)-1] == '\n'
			p = p[len(line):]
		}
	}
	if m.text.finish() == bare {
		return fmt.Errorf("line %d: %w", m.text.line+1, ErrBareLine)
	}
	end := ".\r\n"
	if !atStart {
		end = "\r\n.\r\n"
	}
	if err := m.beforeEnd(); err != nil {
		return err
	}
	out, err := collect(out, []byte(end), write)
	if err != nil {
		return err
	}
	return write(out)
}
