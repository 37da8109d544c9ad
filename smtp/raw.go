package smtp

import (
	"context"
	"crypto/tls"
	"net"

	"postern/mail"
	"postern/transcript"
)

// A Raw is the client's face for auditors: it sends arbitrary octets, reads
// replies of any cut, and records every octet. It is not safe for concurrent use.
type Raw struct {
	conn net.Conn
	rec  *transcript.Transcript
}

// NewRaw speaks over conn; rec may be nil.
func NewRaw(conn net.Conn, rec *transcript.Transcript) *Raw { return &Raw{conn: conn, rec: rec} }

// Write sends p as it is.
func (r *Raw) Write(ctx context.Context, p []byte) error { return nil }

// Reply reads one reply.
func (r *Raw) Reply(ctx context.Context) (mail.Reply, error) { return mail.Reply{}, nil }

// Command sends line and CRLF and reads one reply.
func (r *Raw) Command(ctx context.Context, line string) (mail.Reply, error) { return mail.Reply{}, nil }

// StartTLS makes TLS on the connection; the caller has sent STARTTLS and read its 220.
func (r *Raw) StartTLS(ctx context.Context, cfg *tls.Config) error { return nil }

// Buffered returns how many octets were received and not yet read as a reply.
func (r *Raw) Buffered() int { return 0 }

// Conn returns the connection, the TLS one after StartTLS.
func (r *Raw) Conn() net.Conn { return r.conn }

// TLS returns the state of TLS, nil without.
func (r *Raw) TLS() *tls.ConnectionState { return nil }

// Close closes the connection.
func (r *Raw) Close() error { return r.conn.Close() }
