package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"net"

	"postern/mail"
	"postern/transcript"
)

// A Client delivers over one connection. It is not safe for concurrent use.
type Client struct{ raw *Raw }

// ClientOptions may be zero.
type ClientOptions struct {
	Transcript *transcript.Transcript
	Timeouts   Timeouts
}

// A RcptResult is what the server said of one recipient.
type RcptResult struct {
	To    mail.ForwardPath
	Reply mail.Reply
}

// NewClient reads the banner; a banner that is not 220 comes back as *ReplyError.
func NewClient(ctx context.Context, conn net.Conn, o ClientOptions) (*Client, error) { return nil, nil }

// Hello sends EHLO, and HELO where EHLO is refused.
func (c *Client) Hello(ctx context.Context, name string) error { return nil }

// StartTLS asks for TLS, makes it, and greets again.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error { return nil }

// Auth logs in by PLAIN or LOGIN.
func (c *Client) Auth(ctx context.Context, user, password string) error { return nil }

// Send delivers one message.
func (c *Client) Send(ctx context.Context, env mail.Envelope, body io.Reader) ([]RcptResult, mail.Reply, error) {
	return nil, mail.Reply{}, nil
}

// Extension returns the parameters of an extension that the server offers.
func (c *Client) Extension(keyword string) (string, bool) { return "", false }

// Reset sends RSET.
func (c *Client) Reset(ctx context.Context) error { return nil }

// Quit sends QUIT, reads its reply and closes.
func (c *Client) Quit(ctx context.Context) error { return nil }

// Close closes the connection without a word.
func (c *Client) Close() error { return c.raw.Close() }
