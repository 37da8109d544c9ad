package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"postern/internal/netop"
	"postern/mail"
	"postern/transcript"
)

// A Raw is the client's face for auditors: it sends arbitrary octets, reads
// replies of any cut, and records every octet with its direction and time. It
// is not safe for concurrent use.
//
// Each call ends with its context; the error is then ErrTimeout and the cause
// of the context. A reply that was not complete by then is not lost: the next
// Reply goes on with it.
type Raw struct {
	conn  net.Conn
	rec   *transcript.Transcript
	buf   []byte // received, and not yet part of a reply
	parts replyReader
	tls   *tls.ConnectionState
}

// NewRaw speaks over conn; rec may be nil. It sends and reads nothing.
func NewRaw(conn net.Conn, rec *transcript.Transcript) *Raw { return &Raw{conn: conn, rec: rec} }

// Conn returns the connection, the TLS one after StartTLS.
func (r *Raw) Conn() net.Conn { return r.conn }

// TLS returns the state of TLS, nil without.
func (r *Raw) TLS() *tls.ConnectionState { return r.tls }

// Buffered returns how many octets were received and not yet returned as part
// of a reply, those of a reply that is not complete included.
func (r *Raw) Buffered() int { return len(r.buf) + r.parts.size }

// earlyFor is how long it is looked whether something has come: what the
// machine holds already is there at once.
const earlyFor = 200 * time.Microsecond

// early reports whether something has come that nobody has asked for yet. An
// error of the connection is left to whoever uses it next.
func (r *Raw) early() bool {
	if r.Buffered() > 0 {
		return true
	}
	if r.conn.SetReadDeadline(time.Now().Add(earlyFor)) != nil {
		return false
	}
	b := getBuffer(smallBuffer)
	n, _ := r.conn.Read(b) // see above
	_ = r.conn.SetReadDeadline(time.Time{})
	r.rec.Add(time.Now(), transcript.Received, b[:n])
	r.buf = append(r.buf, b[:n]...)
	putBuffer(b)
	return n > 0
}

// Close closes the connection.
func (r *Raw) Close() error { return r.conn.Close() }

// Write sends p as it is.
func (r *Raw) Write(ctx context.Context, p []byte) error {
	disarm := netop.Arm(ctx, r.conn.SetWriteDeadline)
	n, err := r.conn.Write(p)
	disarm()
	r.rec.Add(time.Now(), transcript.Sent, p[:n])
	if err != nil {
		return r.fail(ctx, "write", err)
	}
	return nil
}

// Command sends line and CRLF and reads one reply.
func (r *Raw) Command(ctx context.Context, line string) (mail.Reply, error) {
	if err := r.Write(ctx, []byte(line+"\r\n")); err != nil {
		return mail.Reply{}, err
	}
	return r.Reply(ctx)
}

// Reply reads one reply. Line ends of LF alone are taken: nothing hangs on
// them here. What is no reply is an error of kind ErrNotSMTP that shows it,
// and is consumed up to its line end, or wholly where there is none.
func (r *Raw) Reply(ctx context.Context) (mail.Reply, error) {
	for {
		reply, err := r.ready()
		if err != nil || !reply.IsZero() {
			return reply, err
		}
		if err := r.fill(ctx); err != nil {
			return mail.Reply{}, err
		}
	}
}

// ready returns a reply of which all has come in, and the zero Reply when
// more must be read.
func (r *Raw) ready() (mail.Reply, error) {
	for {
		line, found := cutLine(r.buf)
		switch {
		case found && len(line) > maxReplyLine, !found && len(r.buf) > maxReplyLine, r.parts.size > maxReply:
			return mail.Reply{}, r.garbage(ErrLineTooLong, len(r.buf))
		case !found && !startsReply(r.buf):
			// Servers of other protocols may never end a line: do not wait for one.
			return mail.Reply{}, r.garbage(ErrNotSMTP, len(r.buf))
		case !found:
			return mail.Reply{}, nil
		}
		reply, done, ok := r.parts.line(line)
		if !ok {
			return mail.Reply{}, r.garbage(ErrNotSMTP, len(line))
		}
		r.buf = r.buf[len(line):]
		if done {
			return reply, nil
		}
	}
}

// startsReply reports whether b may become a line of a reply.
func startsReply(b []byte) bool {
	for i, c := range b[:min(3, len(b))] {
		if !isDigit(c) || i == 0 && (c < '2' || c > '5') {
			return false
		}
	}
	return len(b) < 4 || b[3] == ' ' || b[3] == '-' || b[3] == '\r'
}

// garbage consumes n octets that are no reply, and the parts of one before them.
func (r *Raw) garbage(kind error, n int) error {
	seen := append([]byte(strings.Join(r.parts.lines, "\r\n")), r.buf[:n]...)
	r.buf = r.buf[n:]
	r.parts = replyReader{}
	return &WireError{Doing: "read reply", Kind: kind, Seen: cut(seen)}
}

func cut(b []byte) []byte { return b[:min(len(b), maxSeen)] }

const maxSeen = 512

func (r *Raw) fill(ctx context.Context) error {
	disarm := netop.Arm(ctx, r.conn.SetReadDeadline)
	b := getBuffer(smallBuffer)
	n, err := r.conn.Read(b)
	disarm()
	r.rec.Add(time.Now(), transcript.Received, b[:n])
	if n > 0 {
		// A copy, because buf lives on while the session waits for its user.
		r.buf = append(append(make([]byte, 0, len(r.buf)+n), r.buf...), b[:n]...)
		putBuffer(b)
		return nil
	}
	putBuffer(b)
	if err == nil {
		return nil
	}
	return r.fail(ctx, "read reply", err)
}

// fail names what happened, in the error and in the transcript.
func (r *Raw) fail(ctx context.Context, doing string, err error) error {
	e := &WireError{Doing: doing, Seen: cut(append([]byte(strings.Join(r.parts.lines, "\r\n")), r.buf...))}
	switch {
	case netop.IsTimeout(err):
		e.Kind, e.Err = ErrTimeout, netop.Cause(ctx)
		r.rec.Note(time.Now(), "no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Kind = ErrClosed
		if !errors.Is(err, io.EOF) {
			e.Err = err
		}
		r.rec.Note(time.Now(), "connection closed by peer")
	default:
		e.Err = err
		r.rec.Note(time.Now(), doing+": "+err.Error())
	}
	return e
}

// StartTLS makes TLS on the connection; the caller has sent STARTTLS and read
// its 220, or speaks TLS from the first octet. Octets that came in clear
// behind that reply are an error: whoever sits on the line sent them
// (RFC 3207 section 4.2). After an error the connection is of no more use.
func (r *Raw) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if r.Buffered() > 0 {
		return &WireError{Doing: "start TLS", Kind: errEarlyReply, Seen: cut(r.buf)}
	}
	tc := tls.Client(r.conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		e := &WireError{Doing: "start TLS", Err: err}
		if ctx.Err() != nil {
			e.Kind, e.Err = ErrTimeout, netop.Cause(ctx)
		}
		r.rec.Note(time.Now(), "TLS failed: "+err.Error())
		return e
	}
	state := tc.ConnectionState()
	r.conn, r.tls = tc, &state
	r.rec.StartTLS(time.Now(), tlsNote(&state))
	return nil
}

var errEarlyReply = errors.New("octets in clear behind the reply to STARTTLS")
