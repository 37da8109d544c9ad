package smtp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern/mail"
)

// chunking takes a message by BDAT (RFC 3030), in chunks of known length.
var chunking = extension{keyword: "CHUNKING"}

var (
	replyBadChunk  = mail.NewReply(501, "5.5.4", "Write BDAT SIZE or BDAT SIZE LAST; closing, because the chunk cannot be found")
	replyMidChunks = mail.NewReply(503, "5.5.1", "Not possible between chunks; the transaction was ended")

	errBadChunk = errors.New("BDAT without a valid size")
)

// bdat begins a message with its first chunk. A chunk is read also when it is
// refused: its octets are no commands. Without a valid size that cannot be
// done, and the session ends.
func (c *connection) bdat(arg string) {
	n, last, ok := parseChunk(arg)
	if !ok {
		c.close(replyBadChunk, errBadChunk)
		return
	}
	r := c.mayStart()
	if r.IsZero() {
		if r = c.startData(); !r.IsZero() {
			c.endTransaction()
		}
	}
	b := c.newBody()
	b.chunked, b.text.dots = true, false
	b.left, b.chunk, b.last = n, n, last
	if !r.IsZero() {
		c.discardChunk(b, r)
		return
	}
	c.take(b)
}

// parseChunk reads "SIZE" or "SIZE LAST".
func parseChunk(arg string) (n int64, last, ok bool) {
	digits, rest, _ := strings.Cut(arg, " ")
	if rest != "" && !strings.EqualFold(rest, "LAST") {
		return 0, false, false
	}
	if digits == "" || len(digits) > 20 || strings.Trim(digits, "0123456789") != "" {
		return 0, false, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, rest != "", err == nil
}

// discardChunk reads over a chunk that nobody takes and answers r.
func (c *connection) discardChunk(b *body, r mail.Reply) {
	fault := b.drainChunk()
	c.in.shrink()
	if fault != nil {
		c.failed(b, fault)
		return
	}
	c.send(r)
}

// nextChunk answers the chunk that has been read and waits for the next one.
// Any other command but NOOP gives the message up; it is kept and answered
// when the session has let the message go.
func (b *body) nextChunk() {
	c := b.c
	c.send(replyChunk(b.chunk))
	for b.err == nil {
		if c.done {
			b.err = fmt.Errorf("%w: %w", ErrTruncated, c.err)
			return
		}
		line, err := c.in.line(&c.rule)
		if err != nil {
			c.lineFailed(err)
			if !c.done { // too long, and answered
				continue
			}
			b.err = fmt.Errorf("%w: %w", ErrTruncated, c.err)
			return
		}
		verb, arg, _ := strings.Cut(string(line), " ")
		switch strings.ToUpper(verb) {
		case "NOOP":
			c.send(replyNoop)
		case "BDAT":
			n, last, ok := parseChunk(strings.TrimRight(arg, " "))
			if !ok {
				c.close(replyBadChunk, errBadChunk)
				b.err = fmt.Errorf("%w: %w", ErrTruncated, errBadChunk)
				return
			}
			b.left, b.chunk, b.last = n, n, last
			return
		case "MAIL":
			// A new transaction within this one: answered like the sequence
			// error that it is; the client must begin again.
			c.send(replyMidChunks)
			b.err = ErrReset
		default:
			c.stash = []byte(string(line))
			b.err = ErrReset
		}
	}
}
