package smtp

import (
	"strings"
	"time"

	"postern/mail"
)

// xclient lets a trusted front end say who its client is (Postfix's
// XCLIENT_README). Only a session that takes it offers it.
var xclient = extension{
	keyword: "XCLIENT",
	offered: func(c *connection) bool { _, ok := c.session.(XClienter); return ok },
	args:    func(*connection) string { return "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" },
}

// xclient starts the session anew when the session takes the attributes.
func (c *connection) xclient(arg string) {
	s, ok := c.session.(XClienter)
	if !ok {
		c.send(replyNotOffered)
		return
	}
	if c.open {
		c.send(replyNested)
		return
	}
	attributes := map[string]string{}
	for _, word := range strings.Fields(arg) {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" || !isXtext(strings.ToUpper(value)) {
			c.send(mail.NewReply(501, "5.5.4", "Write XCLIENT NAME=VALUE"))
			return
		}
		attributes[strings.ToUpper(name)] = decodeXclient(value)
	}
	if len(attributes) == 0 {
		c.send(mail.NewReply(501, "5.5.4", "Write XCLIENT NAME=VALUE"))
		return
	}
	r := checked(s.XClient(c.ctx, attributes), mail.NewReply(550, "5.7.1", "XCLIENT not allowed"))
	if r.Code == 220 {
		c.endTransaction()
		c.greeted = false
		c.peer.Helo, c.peer.ESMTP, c.peer.Identity = "", false, ""
		c.peer.Banner = time.Now()
		r.Enhanced = mail.EnhancedCode{}
	}
	c.send(r)
}

// decodeXclient decodes xtext whose hexadecimal digits may be in lower case.
func decodeXclient(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '+' && i+2 < len(b) {
			copy(b[i+1:i+3], strings.ToUpper(string(b[i+1:i+3])))
		}
	}
	return decodeXtext(string(b))
}
