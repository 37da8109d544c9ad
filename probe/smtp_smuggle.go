package probe

import (
	"context"
	"strings"

	"postern/verdict"
)

// smuggle sends a message to a mailbox of the server's own that holds a second
// envelope behind a line end which is not the end of data (RFC 5321 section
// 4.1.1.4). A server, or the next hop behind it, that takes it for one reads
// the second envelope as commands of a client that it may trust.
//
// The end of data under test is the move's argument. The connection closes
// after the answer to the true end: when the server has split the message its
// answers are out of step.
func smuggle(ctx context.Context, v *Visit, p Play) (verdict.Exchange, error) {
	if x, done, err := v.envelope(ctx, p); done || err != nil {
		return x, err
	}
	r, err := v.commandRaw(ctx, "DATA\r\n")
	if err != nil {
		return verdict.Exchange{}, err
	}
	if r.Code != 354 {
		return v.refused(ctx, p, verdict.AtData, r)
	}
	inner := p.Message
	head := strings.Replace(p.Message.String(), "token: ", "outer token: ", 1)
	body := strings.TrimSuffix(head, "\r\n") + p.Envelope.MoveArg +
		"MAIL FROM:<" + p.Envelope.Sender + ">\r\nRCPT TO:<" + p.Message.Recipient.String() + ">\r\nDATA\r\n" +
		inner.String() + ".\r\n"
	v.stage = verdict.AtMessage
	if r, err = v.commandRaw(ctx, body); err != nil {
		return verdict.Exchange{}, err
	}
	x := v.exchange(p, verdict.AtMessage, r)
	v.drain(ctx)
	return x, nil
}

// drain says QUIT and reads whatever answers there are, so that a server that
// has split the message gets to its second half before the connection ends.
func (v *Visit) drain(ctx context.Context) {
	if err := v.raw.Write(ctx, []byte("QUIT\r\n")); err != nil {
		return
	}
	for range 8 {
		if _, err := v.reply(ctx); err != nil {
			return
		}
	}
}
