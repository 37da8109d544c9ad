package deliver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"postern/internal/queue"
	"postern/mail"
)

// fit makes of an envelope what a server can take. A client that says 8BITMIME
// or SMTPUTF8 of every message wishes for no more than the message needs: a
// server without the word gets what does without, and is spared the rest.
func (j *job) fit(ctx context.Context, l *link, env *mail.Envelope) {
	_, eight := l.client.Extension("8BITMIME")
	_, utf8 := l.client.Extension("SMTPUTF8")
	if !utf8 {
		inALabels(env)
	}
	wants8 := env.Sender.Body == mail.Body8BitMIME && !eight
	wantsUTF8 := env.Sender.UTF8 && !utf8
	if !wants8 && !wantsUTF8 {
		return
	}
	header, text := j.eightBits(ctx)
	if wants8 && !header && !text {
		env.Sender.Body = ""
	}
	if wantsUTF8 && !header {
		env.Sender.UTF8 = false
	}
}

// inALabels writes an envelope without U-labels, and without the original
// recipients that need SMTPUTF8 to be written (RFC 6533 section 3). What is left
// beyond ASCII are local parts, of which there is no other form.
func inALabels(env *mail.Envelope) {
	if !env.From.Null() {
		env.From = mail.ReverseTo(env.From.Address().ALabels())
	}
	for i := range env.To {
		to := &env.To[i]
		to.Path = mail.ForwardTo(to.Path.Address().ALabels())
		if bytes.ContainsFunc([]byte(to.Params.ORcpt), func(r rune) bool { return r >= 0x80 }) {
			to.Params.ORcpt = ""
		}
	}
}

// eightBits reads a message to find out where it has octets above 127. What
// cannot be read is taken to have them.
func (j *job) eightBits(ctx context.Context) (header, text bool) {
	body, err := j.d.o.Queue.Open(ctx, j.lease.Message.ID)
	if err != nil {
		return true, true
	}
	defer body.Close()
	in := bufio.NewReaderSize(body, 32<<10)
	for inHeader := true; ; {
		line, err := in.ReadSlice('\n')
		if bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x80 }) {
			header, text = header || inHeader, text || !inHeader
		}
		inHeader = inHeader && string(line) != "\r\n"
		switch {
		case text, errors.Is(err, io.EOF):
			return header, text
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return true, true
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
