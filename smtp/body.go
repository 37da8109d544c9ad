package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"postern/internal/netop"
	"postern/mail"
)

// A body is the message of one transaction as the session reads it, by DATA or
// by chunks. It says io.EOF only when the whole message was read; every other
// end is an error, and stays one.
type body struct {
	c       *connection
	text    text
	chunked bool
	left    int64 // of the present chunk
	last    bool  // it is the last one
	chunk   int64 // its length

	start    time.Time
	received int64  // octets of the wire
	size     int64  // octets handed on
	pending  []byte // found, and not yet handed on
	err      error
	complete bool // err is io.EOF: no error that wraps one is the end of a message
	badLine  int  // the line that ErrBareLine, ErrLineTooLong and ErrNUL are about
}

func (c *connection) newBody() *body {
	return &body{c: c, start: time.Now(), text: text{lines: c.server.Lines, dots: true, maxLine: c.limits.TextLine}}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(b.pending) == 0 {
		if b.pending = b.next(); len(b.pending) == 0 {
			return 0, b.err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: what was scanned goes on without a copy.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		if len(b.pending) == 0 {
			if b.pending = b.next(); len(b.pending) == 0 {
				if b.whole() {
					return written, nil
				}
				return written, b.err
			}
		}
		n, err := w.Write(b.pending)
		written += int64(n)
		b.pending = b.pending[n:]
		if err != nil {
			return written, err
		}
	}
}

// next returns the next octets of the message; none when b.err is set.
func (b *body) next() []byte {
	for b.err == nil {
		out := b.step()
		if len(out) == 0 {
			continue
		}
		b.size += int64(len(out))
		if over(b.size, b.c.limits.MessageSize) {
			b.err = ErrTooLarge
			return nil
		}
		return out
	}
	return nil
}

// step scans what is there, or reads more.
func (b *body) step() []byte {
	window := b.c.in.window()
	if b.chunked {
		if b.left == 0 {
			b.endChunk()
			return nil
		}
		window = window[:min(int64(len(window)), b.left)]
	}
	used, out, f := b.text.scan(window)
	b.c.in.r += used
	b.received += int64(used)
	if b.chunked {
		b.left -= int64(used)
	}
	switch f {
	case short:
		b.fill()
	case ended:
		b.end()
	case bare:
		b.err, b.badLine = ErrBareLine, b.text.line+1
	case long:
		b.err, b.badLine = ErrLineTooLong, b.text.line+1
	case clean:
		if i := bytes.IndexByte(out, 0); i >= 0 && b.text.refusesNUL() {
			// RFC 2045 section 2.7: whoever drops it may see another end of the
			// message than we do.
			b.err, b.badLine = ErrNUL, b.text.line-bytes.Count(out[i:], crlf[1:])+1
			return nil
		}
	}
	return out
}

// endChunk ends the message after the last chunk, else it answers and waits
// for the next one.
func (b *body) endChunk() {
	switch {
	case !b.last:
		b.nextChunk()
	case b.text.finish() == bare:
		b.err, b.badLine = ErrBareLine, b.text.line+1
	default:
		b.end()
	}
}

func (b *body) end() { b.err, b.complete = io.EOF, true }

// fill reads more of the message within the limits on time.
func (b *body) fill() {
	c := b.c
	if err := c.out.flush(); err != nil {
		b.err = fmt.Errorf("%w: send reply: %w", ErrTruncated, err)
		return
	}
	if c.in.w == len(c.in.buf) {
		if c.in.buffered() == 0 {
			c.in.r, c.in.w = 0, 0
		}
		c.in.grow()
	}
	if err := b.more(); err != nil {
		if netop.IsTimeout(err) {
			err = ErrTimeout
		} else if errors.Is(err, io.EOF) {
			err = ErrClosed
		}
		b.err = fmt.Errorf("%w: %w", ErrTruncated, err)
	}
}

// more reads once, within the limits on time.
func (b *body) more() error {
	until := b.deadline()
	for {
		step, last := nextLook(until)
		err := b.c.in.fill(step, false)
		if err == nil || last || !netop.IsTimeout(err) || b.c.pressed() {
			return err
		}
	}
}

// deadline is the first of the three limits that a slow client meets. One
// whose message has failed is not waited for long: it may never send the end
// that it was to send, because it takes another one for it.
func (b *body) deadline() time.Time {
	l, now := b.c.limits, time.Now()
	idle := l.DataIdle
	if b.text.lenient && (idle < 0 || idle > failedIdle) {
		idle = failedIdle
	}
	until := after(now, idle)
	earlier := func(t time.Time) {
		if until.IsZero() || t.Before(until) {
			until = t
		}
	}
	if l.DataTotal >= 0 {
		earlier(b.start.Add(l.DataTotal))
	}
	if l.DataRate > 0 && l.DataIdle >= 0 {
		// A rate of n octets a second, with DataIdle to begin.
		earlier(b.start.Add(l.DataIdle + time.Duration(b.received/l.DataRate)*time.Second))
	}
	return until
}

// failedIdle is how long each segment of a refused message is waited for.
const failedIdle = 10 * time.Second

// whole reports that the message came to its end.
func (b *body) whole() bool { return b.complete }

// broken reports that its end cannot be found any more.
func (b *body) broken() bool { return errors.Is(b.err, ErrTruncated) }

// drain reads to the end of the message, so that no octet of it is taken for a
// command, whatever the session has read and whatever was wrong with it. It
// returns the first fault of the message, nil if it is whole.
func (b *body) drain() error {
	b.pending = nil
	for b.err == nil {
		b.next()
	}
	fault := b.err
	switch {
	case b.whole():
		return nil
	case b.broken(), errors.Is(fault, ErrReset):
		return fault
	}
	b.err, b.text.lenient = nil, true
	if b.chunked {
		if err := b.drainChunk(); err != nil {
			return fmt.Errorf("%w: %w", err, fault)
		}
		return fault
	}
	for most := b.most(); b.err == nil; {
		b.step()
		if most >= 0 && b.received > most {
			b.err = ErrTruncated
		}
	}
	if b.broken() {
		// What was wrong first says more than the time-out after it.
		return fmt.Errorf("%w: %w", ErrTruncated, fault)
	}
	return fault
}

// drainChunk reads to the end of the present chunk.
func (b *body) drainChunk() error {
	b.pending, b.text.lenient = nil, true
	if most := b.c.limits.MessageSize; most >= 0 && b.left > most+maxDiscard {
		b.err = fmt.Errorf("%w: %w", ErrTruncated, ErrTooLarge)
	}
	for b.err == nil && b.left > 0 {
		b.step()
	}
	return b.err
}

// most is how much of a message that has failed is read, to answer it where
// the client expects the answer.
func (b *body) most() int64 {
	if b.c.limits.MessageSize < 0 {
		return -1
	}
	return b.received + b.c.limits.MessageSize + maxDiscard
}

// refusal is the reply to a message with this fault; zero when there is nobody
// to answer or nothing to refuse.
func (b *body) refusal(fault error) mail.Reply {
	switch {
	case errors.Is(fault, ErrTooLarge):
		return replyTooLarge
	case errors.Is(fault, ErrBareLine):
		return replyBareLine(b.badLine)
	case errors.Is(fault, ErrLineTooLong):
		return replyLongLine(b.badLine, b.c.limits.TextLine)
	case errors.Is(fault, ErrNUL):
		return replyNUL(b.badLine)
	case errors.Is(fault, ErrTimeout):
		return replyIdle
	}
	return mail.Reply{}
}
