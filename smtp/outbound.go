package smtp

import (
	"net"
	"time"

	"postern/mail"
	"postern/transcript"
)

// An outbound collects replies until the client waits for them (RFC 2920
// section 3.2): one system call answers a whole group of commands.
type outbound struct {
	conn  net.Conn
	rec   *transcript.Transcript
	buf   []byte // replies that are not yet sent, in a pooled buffer; nil: none
	limit time.Duration
}

func (o *outbound) add(r mail.Reply) error {
	if o.buf == nil {
		o.buf = getBuffer(smallBuffer)[:0]
	}
	o.buf = r.AppendWire(o.buf)
	if len(o.buf) < smallBuffer/2 {
		return nil
	}
	return o.flush()
}

func (o *outbound) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	now := time.Now()
	o.conn.SetWriteDeadline(after(now, o.limit))
	_, err := o.conn.Write(o.buf)
	o.rec.Add(now, transcript.Sent, o.buf)
	putBuffer(o.buf)
	o.buf = nil
	return err
}
