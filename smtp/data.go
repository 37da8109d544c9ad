package smtp

import (
	"errors"

	"postern/mail"
)

// data takes a message by DATA (RFC 5321 section 4.1.1.4).
func (c *connection) data(string) {
	if r := c.mayStart(); !r.IsZero() {
		c.send(r)
		return
	}
	if r := c.startData(); !r.IsZero() {
		c.endTransaction()
		c.send(r)
		return
	}
	c.send(replyStart)
	c.take(c.newBody())
}

// mayStart says why there can be no message now.
func (c *connection) mayStart() mail.Reply {
	switch {
	case !c.open:
		return replyMailFirst
	case c.rcpts == 0:
		return replyRcptFirst
	}
	return mail.Reply{}
}

// startData lets the session refuse before the message is sent.
func (c *connection) startData() mail.Reply {
	s, ok := c.session.(DataStarter)
	if !ok {
		return mail.Reply{}
	}
	r := checked(s.StartData(c.ctx), mail.Reply{})
	if r.Positive() {
		return mail.Reply{} // the 354 is the engine's
	}
	return r
}

// take hands the message to the session, reads what it left, and answers. The
// session's reply counts only if the message is whole.
func (c *connection) take(b *body) {
	if c.done {
		return
	}
	r := checked(c.session.Data(c.ctx, b), replyNotStored)
	var fault error
	if b.chunked && b.err == nil && !r.Positive() {
		fault = b.drainChunk() // the answer belongs to this chunk
	} else {
		fault = b.drain()
	}
	c.in.shrink()
	c.endTransaction()
	if fault == nil {
		if r.Positive() {
			c.fruitful()
		}
		c.send(r)
		return
	}
	c.failed(b, fault)
}

// failed answers a message that is not whole or not well formed. Where the end
// of it was lost, or where the peer may see another end than we do, the
// connection ends: what would come next might be the message's.
func (c *connection) failed(b *body, fault error) {
	r := b.refusal(fault)
	switch {
	case errors.Is(fault, ErrReset):
		// The command that ended it waits in c.stash and is answered next.
	case errors.Is(fault, ErrTruncated) && r.IsZero():
		c.lost(fault)
	case errors.Is(fault, ErrTruncated), errors.Is(fault, ErrBareLine), errors.Is(fault, ErrNUL):
		c.close(r, fault)
	default:
		c.send(r)
	}
}
