package smtp

import (
	"context"
	"errors"

	"postern/mail"
)

// LMTP (RFC 2033) differs in three points: LHLO greets, DATA without a
// recipient must fail, and the end of the message is answered once for each
// recipient that was accepted, in the order of RCPT.

// greeter is the command that greets.
func (c *Client) greeter() string {
	if c.options.LMTP {
		return "LHLO"
	}
	return "EHLO"
}

// ended gives r to the recipients that still wait for the reply that decides
// about them. Over SMTP nobody waits.
func (d *delivery) ended(r mail.Reply) {
	for _, i := range d.waiting {
		d.results[i].Reply = r
	}
	d.waiting = nil
}

// endEach reads a reply for each recipient. A server that said 421 and closes
// has spoken for those that follow as well.
func (d *delivery) endEach(ctx context.Context) error {
	all := true
	for len(d.waiting) > 0 {
		r, err := d.c.reply(ctx, d.c.options.Timeouts.End, "the reply to the end of the message")
		if err != nil {
			if d.over && errors.Is(err, ErrClosed) {
				d.ended(d.last)
				return nil
			}
			return err
		}
		if d.last.IsZero() {
			if err := d.knowsChunks(r); err != nil {
				return err
			}
		}
		d.results[d.waiting[0]].Reply = r
		d.waiting = d.waiting[1:]
		if !d.final.Positive() {
			d.final = r
		}
		d.last, d.over = r, r.Code == 421
		all = all && r.Positive()
	}
	d.c.dirty = !all
	return nil
}
