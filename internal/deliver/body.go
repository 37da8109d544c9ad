package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"postern/internal/queue"
	"postern/mail"
)

// bodyFor returns the BODY of an envelope. A server without 8BITMIME gets what
// has seven bits only, whatever was said of it; the rest it is spared.
func (j *job) bodyFor(ctx context.Context, l *link, body mail.Body) mail.Body {
	if body == mail.Body8BitMIME {
		if _, ok := l.client.Extension("8BITMIME"); !ok && j.sevenBits(ctx) {
			return ""
		}
	}
	return body
}

// sevenBits reads a message to find out whether it needs eight.
func (j *job) sevenBits(ctx context.Context) bool {
	body, err := j.d.o.Queue.Open(ctx, j.lease.Message.ID)
	if err != nil {
		return false
	}
	defer body.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if slices.ContainsFunc(buf[:n], func(c byte) bool { return c >= 0x80 }) {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// unreadable is the trouble of a body that cannot be read: not the server's fault.
func (j *job) unreadable(err error) *trouble {
	j.d.o.Report(fmt.Errorf("message %s: %w", j.lease.Message.ID, err))
	if errors.Is(err, queue.ErrBroken) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &trouble{note: "its body could not be read: " + err.Error()}
	}
	return &trouble{state: queue.Withheld, note: "its body is damaged: " + err.Error()}
}

// A source is a body whose length is known, and whose error is not the wire's.
type source struct {
	r    io.Reader
	size int64
	err  error

	begun bool // something of it was read
}

// Size lets the message go as one chunk, however long it is.
func (s *source) Size() int64 { return s.size }

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.begun = true
	if err != nil && err != io.EOF { //nolint:errorlint // the end of a body is io.EOF itself
		s.err = err
	}
	return n, err
}
