package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"postern/mail"
	"postern/transcript"
)

// Bounds of what a server may say in one reply. RFC 5321 section 4.5.3.1.5
// allows lines of 512 octets; what is in use is longer, but has an end.
const (
	maxReplyLine  = 4096
	maxReplyTotal = 64 << 10
)

// A Raw is the client's face for auditors: it sends arbitrary octets, reads
// replies of any cut, and records every octet. It is not safe for concurrent use.
type Raw struct {
	conn net.Conn
	tls  *tls.Conn
	rec  *transcript.Transcript
	in   []byte // received and not yet read as a reply
}

// NewRaw speaks over conn; rec may be nil.
func NewRaw(conn net.Conn, rec *transcript.Transcript) *Raw { return &Raw{conn: conn, rec: rec} }

// Write sends p as it is.
func (r *Raw) Write(ctx context.Context, p []byte) error {
	defer r.bound(ctx)()
	r.rec.Add(time.Now(), transcript.Sent, p)
	_, err := r.conn.Write(p)
	return r.fail(ctx, "write", err, nil)
}

// Reply reads one reply, of one line or more. Line ends may be LF alone; a
// line that is no reply, or a reply without end, is an error that shows it.
func (r *Raw) Reply(ctx context.Context) (mail.Reply, error) {
	defer r.bound(ctx)()
	var reply mail.Reply
	total := 0
	for {
		line, err := r.line(ctx)
		if err != nil {
			return reply, err
		}
		if total += len(line); total > maxReplyTotal {
			return reply, &WireError{Doing: "read reply", Kind: ErrLineTooLong, Seen: head(line)}
		}
		code, text, more, ok := cutReplyLine(line)
		if !ok {
			return reply, &WireError{Doing: "read reply", Kind: ErrNotSMTP, Seen: head(line)}
		}
		if enhanced, rest, ok := mail.CutEnhancedCode(text); ok && int(enhanced.Class) == code/100 {
			reply.Enhanced, text = enhanced, rest
		}
		reply.Code = code
		reply.Lines = append(reply.Lines, text)
		if !more {
			return reply, nil
		}
	}
}

// cutReplyLine takes a line apart: three digits, and after them a hyphen when
// more lines follow, a space, or nothing (RFC 5321 section 4.2).
func cutReplyLine(line []byte) (code int, text string, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, "", false, false
	}
	for _, b := range line[:3] {
		if b < '0' || b > '9' {
			return 0, "", false, false
		}
		code = 10*code + int(b-'0')
	}
	switch {
	case len(line) == 3:
		return code, "", false, true
	case line[3] == '-':
		return code, string(line[4:]), true, true
	case line[3] == ' ':
		return code, string(line[4:]), false, true
	}
	return 0, "", false, false
}

// line returns the next line without its end.
func (r *Raw) line(ctx context.Context) ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.in, '\n'); i >= 0 {
			line := bytes.TrimSuffix(r.in[:i], []byte("\r"))
			r.in = r.in[i+1:]
			return line, nil
		}
		if len(r.in) > maxReplyLine {
			return nil, &WireError{Doing: "read reply", Kind: ErrLineTooLong, Seen: head(r.in)}
		}
		buf := make([]byte, 2048)
		n, err := r.conn.Read(buf)
		if n > 0 {
			r.rec.Add(time.Now(), transcript.Received, buf[:n])
			r.in = append(r.in, buf[:n]...)
			continue
		}
		if err != nil {
			return nil, r.fail(ctx, "read reply", err, r.in)
		}
	}
}

// Command sends line and CRLF and reads one reply.
func (r *Raw) Command(ctx context.Context, line string) (mail.Reply, error) {
	if err := r.Write(ctx, []byte(line+"\r\n")); err != nil {
		return mail.Reply{}, err
	}
	return r.Reply(ctx)
}

// StartTLS makes TLS on the connection; the caller has sent STARTTLS and read
// its 220. What the server sent before the handshake is an error: it could
// have come from anybody on the way (RFC 3207 section 6).
func (r *Raw) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if len(r.in) > 0 {
		return &WireError{Doing: "start TLS", Kind: ErrNotSMTP, Seen: head(r.in)}
	}
	c := tls.Client(r.conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		r.rec.Note(time.Now(), "TLS handshake failed: "+err.Error())
		return r.fail(ctx, "TLS handshake", err, nil)
	}
	r.conn, r.tls = c, c
	s := c.ConnectionState()
	r.rec.StartTLS(time.Now(), tls.VersionName(s.Version)+" "+tls.CipherSuiteName(s.CipherSuite))
	return nil
}

// Buffered returns how many octets were received and not yet read as a reply.
func (r *Raw) Buffered() int { return len(r.in) }

// Conn returns the connection, the TLS one after StartTLS.
func (r *Raw) Conn() net.Conn { return r.conn }

// TLS returns the state of TLS, nil without.
func (r *Raw) TLS() *tls.ConnectionState {
	if r.tls == nil {
		return nil
	}
	s := r.tls.ConnectionState()
	return &s
}

// Close closes the connection.
func (r *Raw) Close() error { return r.conn.Close() }

// bound makes the connection end what it does when ctx ends; call the result
// when done.
func (r *Raw) bound(ctx context.Context) func() {
	deadline, _ := ctx.Deadline()
	_ = r.conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = r.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// fail says what kind of failure err is.
func (r *Raw) fail(ctx context.Context, doing string, err error, seen []byte) error {
	if err == nil {
		return nil
	}
	w := &WireError{Doing: doing, Err: err, Seen: head(seen)}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		w.Kind = ErrTimeout
		if cause := context.Cause(ctx); cause != nil {
			w.Err = cause
		}
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		w.Kind = ErrClosed
	}
	r.rec.Note(time.Now(), w.Error())
	return w
}

func head(b []byte) []byte {
	return bytes.Clone(b[:min(len(b), 512)])
}
