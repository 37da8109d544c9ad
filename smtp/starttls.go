package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"postern/mail"
)

// startTLS turns to TLS within the session (RFC 3207).
var startTLS = extension{
	keyword: "STARTTLS",
	offered: func(c *connection) bool { return c.server.TLS != nil && c.peer.TLS == nil && !c.server.Implicit },
}

var errEarlyPlain = errors.New("octets in clear followed STARTTLS")

// startTLS answers, shakes hands and forgets all that came before (RFC 3207
// section 4.2). Commands sent along with STARTTLS came from whoever sat on the
// line, so they end the session (CVE-2011-0411); so does a handshake that
// fails, because what follows it would be read in clear.
func (c *connection) startTLS(string) {
	if c.in.buffered() > 0 {
		c.close(mail.NewReply(554, "5.5.1", "Nothing may follow STARTTLS before TLS; closing"), errEarlyPlain)
		return
	}
	c.endTransaction()
	c.send(replyStartTLS)
	if err := c.out.flush(); err != nil {
		c.lost(fmt.Errorf("send reply: %w", err))
		return
	}
	if err := c.handshake(); err != nil {
		c.lost(err)
		return
	}
	c.greeted = false
	c.peer.Helo, c.peer.ESMTP, c.peer.Identity = "", false, ""
}

func (c *connection) handshake() error {
	if c.server.TLS == nil {
		return errors.New("TLS handshake: the server has no certificate; set Server.TLS")
	}
	tc := tls.Server(c.conn, c.server.TLS)
	c.conn.SetDeadline(after(time.Now(), c.limits.Handshake))
	if err := tc.HandshakeContext(c.ctx); err != nil {
		c.peer.Transcript.Note(time.Now(), "TLS failed: "+err.Error())
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.conn.SetDeadline(time.Time{})
	state := tc.ConnectionState()
	c.peer.TLS = &state
	c.conn = tc
	c.in.attach(tc)
	c.out.conn = tc
	c.peer.Transcript.StartTLS(time.Now(), tlsNote(&state))
	return nil
}

func tlsNote(s *tls.ConnectionState) string {
	return tls.VersionName(s.Version) + ", " + tls.CipherSuiteName(s.CipherSuite)
}
