package smtp

import "time"

// Timeouts are how long a client waits; zero fields take those of
// DefaultTimeouts, negative ones mean no limit beside the context.
type Timeouts struct {
	Command time.Duration // for a reply to the banner, EHLO, MAIL, RCPT and others
	Data    time.Duration // for the reply to DATA
	Block   time.Duration // for each write of a message
	End     time.Duration // for the reply to the end of a message
}

// DefaultTimeouts are those of RFC 5321 section 4.5.3.2. End is ten minutes:
// giving up sooner sends the message twice (RFC 1047).
var DefaultTimeouts = Timeouts{
	Command: 5 * time.Minute,
	Data:    2 * time.Minute,
	Block:   3 * time.Minute,
	End:     10 * time.Minute,
}

func (t Timeouts) withDefaults() Timeouts {
	d := DefaultTimeouts
	pick(&t.Command, d.Command)
	pick(&t.Data, d.Data)
	pick(&t.Block, d.Block)
	pick(&t.End, d.End)
	return t
}
