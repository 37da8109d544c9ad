// Package plaintext reads texts that people wrote with an editor: a byte order
// mark, which editors of Windows put at the head, is no part of a text. What
// is UTF-16 is an error that says so, and never a list of strange words.
package plaintext

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
)

var mark = []byte("\xef\xbb\xbf")

// errUTF16 is a text in two octets for each character.
var errUTF16 = errors.New("its text is UTF-16; save it as UTF-8")

// ReadFile returns what a file holds.
func ReadFile(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if isUTF16(text) {
		return nil, &os.PathError{Op: "read", Path: name, Err: errUTF16}
	}
	return bytes.TrimPrefix(text, mark), nil
}

// Reader returns what r holds.
func Reader(r io.Reader) io.Reader { return &reader{in: bufio.NewReader(r)} }

// Scanner returns the lines of r.
func Scanner(r io.Reader) *bufio.Scanner { return bufio.NewScanner(Reader(r)) }

type reader struct {
	in    *bufio.Reader
	begun bool
}

func (r *reader) Read(b []byte) (int, error) {
	if !r.begun {
		r.begun = true
		head, _ := r.in.Peek(len(mark)) // a text that is shorter holds no mark
		if isUTF16(head) {
			return 0, errUTF16
		}
		if bytes.Equal(head, mark) {
			_, _ = r.in.Discard(len(mark)) // it was seen
		}
	}
	return r.in.Read(b)
}

func isUTF16(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff"))
}
