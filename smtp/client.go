package smtp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"postern/internal/netop"
	"postern/mail"
	"postern/transcript"
)

// A Client delivers over one connection, which may be made by any dialer. It
// is not safe for concurrent use.
type Client struct {
	raw        *Raw
	options    ClientOptions
	banner     mail.Reply
	hello      mail.Reply
	name       string
	extensions map[string]string // nil before Hello; empty after HELO
	dirty      bool              // a transaction was left open: RSET comes first
}

// ClientOptions may be zero.
type ClientOptions struct {
	Transcript *transcript.Transcript // nil records nothing
	Timeouts   Timeouts
	PlainAuth  bool     // log in without TLS: on one's own machine only
	LMTP       bool     // speak LMTP (RFC 2033); see Send
	Without    []string // keywords of extensions that are not used though they are offered, such as "CHUNKING"
}

// NewClient reads the banner. A banner that is not positive comes back as
// *ReplyError, and the connection is left to the caller.
func NewClient(ctx context.Context, conn net.Conn, o ClientOptions) (*Client, error) {
	o.Timeouts = o.Timeouts.withDefaults()
	c := &Client{raw: NewRaw(conn, o.Transcript), options: o}
	r, err := c.reply(ctx, o.Timeouts.Command, "the banner")
	if err != nil {
		return nil, err
	}
	if r.Code != 220 {
		return nil, &ReplyError{"banner", r}
	}
	c.banner = r
	return c, nil
}

// Banner returns the reply that opened the session.
func (c *Client) Banner() mail.Reply { return c.banner }

// Greeting returns the reply to EHLO, HELO or LHLO.
func (c *Client) Greeting() mail.Reply { return c.hello }

// TLS returns the state of TLS, nil without.
func (c *Client) TLS() *tls.ConnectionState { return c.raw.TLS() }

// Extension returns the parameters of an extension that the server offers.
func (c *Client) Extension(keyword string) (args string, ok bool) {
	args, ok = c.extensions[strings.ToUpper(keyword)]
	return args, ok
}

// Extensions returns the keywords of the reply to EHLO and their parameters.
func (c *Client) Extensions() map[string]string { return c.extensions }

// Hello sends EHLO with our name, and HELO where EHLO is not known; over LMTP,
// LHLO alone.
func (c *Client) Hello(ctx context.Context, name string) error {
	verb := c.greeter()
	if name == "" || strings.ContainsAny(name, " \t\r\n\x00") {
		return fmt.Errorf("%s %q: not the name of a host", verb, name)
	}
	c.name = name
	r, err := c.command(ctx, verb+" "+name)
	if err != nil {
		return err
	}
	c.extensions = map[string]string{}
	unknown := false
	switch r.Code {
	case 500, 501, 502, 504, 550: // RFC 5321 section 3.2
		unknown = true
	}
	switch {
	case unknown && !c.options.LMTP:
		if r, err = c.command(ctx, "HELO "+name); err != nil {
			return err
		}
	default:
		c.extensions = parseExtensions(r)
		for _, w := range c.options.Without {
			delete(c.extensions, strings.ToUpper(w))
		}
	}
	if !r.Positive() {
		return &ReplyError{verb, r}
	}
	c.hello = r
	return nil
}

// parseExtensions reads the keywords of a reply to EHLO.
func parseExtensions(r mail.Reply) map[string]string {
	m := map[string]string{}
	for i, line := range r.Lines {
		if i == 0 {
			continue
		}
		// "AUTH=LOGIN" is how servers before RFC 4954 wrote it.
		keyword, args, _ := strings.Cut(strings.Replace(strings.TrimSpace(line), "AUTH=", "AUTH ", 1), " ")
		keyword = strings.ToUpper(keyword)
		if old := m[keyword]; old != "" {
			args = old + " " + args
		}
		m[keyword] = strings.TrimSpace(args)
	}
	return m
}

// StartTLS asks for TLS, makes it, and greets again: what was said in clear
// counts no more (RFC 3207 section 4.2). After an error the connection is of
// no more use.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if _, ok := c.Extension("STARTTLS"); !ok {
		return fmt.Errorf("STARTTLS: %w", ErrNotOffered)
	}
	r, err := c.command(ctx, "STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return &ReplyError{"STARTTLS", r}
	}
	ctx2, cancel := netop.Limited(ctx, c.options.Timeouts.Command, "TLS")
	defer cancel()
	if err := c.raw.StartTLS(ctx2, cfg); err != nil {
		return err
	}
	return c.Hello(ctx, c.name)
}

// Auth logs in by PLAIN, or by LOGIN where that alone is offered. Without TLS
// it refuses, unless the options allow it.
func (c *Client) Auth(ctx context.Context, user, password string) error {
	if c.TLS() == nil && !c.options.PlainAuth {
		return ErrNoTLS
	}
	if user == "" || strings.ContainsRune(user+password, 0) {
		return errors.New("AUTH: the user is empty, or user or password hold a NUL")
	}
	args, _ := c.Extension("AUTH")
	offered := strings.Fields(strings.ToUpper(args))
	var lines []string
	switch {
	case contains(offered, "PLAIN"):
		lines = []string{"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))}
	case contains(offered, "LOGIN"):
		lines = []string{
			"AUTH LOGIN",
			base64.StdEncoding.EncodeToString([]byte(user)),
			base64.StdEncoding.EncodeToString([]byte(password)),
		}
	default:
		return fmt.Errorf("AUTH PLAIN or LOGIN: %w", ErrNotOffered)
	}
	for i, line := range lines {
		r, err := c.command(ctx, line)
		if err != nil {
			return err
		}
		if i == len(lines)-1 && r.Code == 235 {
			return nil
		}
		if r.Code != 334 {
			return &ReplyError{"AUTH", r}
		}
	}
	return errors.New("AUTH: the server asks for more than PLAIN or LOGIN has")
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// Reset sends RSET.
func (c *Client) Reset(ctx context.Context) error {
	r, err := c.command(ctx, "RSET")
	if err != nil {
		return err
	}
	if !r.Positive() {
		return &ReplyError{"RSET", r}
	}
	c.dirty = false
	return nil
}

// Quit sends QUIT, reads its reply and closes. That the server answers is not
// waited for long: nothing depends on it.
func (c *Client) Quit(ctx context.Context) error {
	defer c.raw.conn.Close()
	ctx, cancel := netop.Limited(ctx, quitWait, "the reply to QUIT")
	defer cancel()
	_, err := c.raw.Command(ctx, "QUIT")
	return err
}

const quitWait = 5 * time.Second

// Close closes the connection without a word.
func (c *Client) Close() error { return c.raw.Close() }

func (c *Client) command(ctx context.Context, line string) (mail.Reply, error) {
	ctx, cancel := netop.Limited(ctx, c.options.Timeouts.Command, "the reply to a command")
	defer cancel()
	return c.raw.Command(ctx, line)
}

func (c *Client) reply(ctx context.Context, limit time.Duration, what string) (mail.Reply, error) {
	if r, err := c.raw.ready(); err != nil || !r.IsZero() {
		return r, err // it came with the one before: nothing is waited for
	}
	ctx, cancel := netop.Limited(ctx, limit, what)
	defer cancel()
	return c.raw.Reply(ctx)
}

func (c *Client) write(ctx context.Context, p []byte) error {
	ctx, cancel := netop.Limited(ctx, c.options.Timeouts.Block, "the server to read")
	defer cancel()
	return c.raw.Write(ctx, p)
}
