package smtp

import (
	"errors"
	"fmt"
	"strings"

	"postern/mail"
)

// A command is what the engine does on one verb.
type command struct {
	run     func(c *connection, arg string)
	offered func(c *connection) bool // nil: always
	nothing bool                     // brings no message nearer: see Limits.Fruitless
	bare    bool                     // takes no parameter (RFC 5321 section 4.1.1)
}

var commands = map[string]command{
	"EHLO": {run: (*connection).ehlo, nothing: true},
	"HELO": {run: (*connection).helo, nothing: true},
	"MAIL": {run: (*connection).mail},
	"RCPT": {run: (*connection).rcpt},
	"DATA": {run: (*connection).data, bare: true},
	"RSET": {run: (*connection).rset, bare: true, nothing: true},
	"NOOP": {run: func(c *connection, _ string) { c.send(replyNoop) }, nothing: true},
	"HELP": {run: func(c *connection, _ string) { c.send(replyHelp) }, nothing: true},
	"QUIT": {run: (*connection).quit, bare: true},
	"VRFY": {run: (*connection).verify, nothing: true},
	"EXPN": {run: func(c *connection, _ string) { c.send(replyNotOffered) }, nothing: true},

	"BDAT":     {run: (*connection).bdat, offered: chunking.in},
	"STARTTLS": {run: (*connection).startTLS, offered: startTLS.in, bare: true},
	"AUTH":     {run: (*connection).auth, offered: auth.in},
	"XCLIENT":  {run: (*connection).xclient, offered: xclient.in},
}

func (c *connection) ehlo(name string) { c.hello(name, true) }
func (c *connection) helo(name string) { c.hello(name, false) }

// hello greets. It ends a transaction as RSET does (RFC 5321 section 4.1.4);
// HELO after AUTH also forgets the identity, because a client that falls back
// to plain SMTP is no longer the one that logged in.
func (c *connection) hello(name string, esmtp bool) {
	if name == "" || strings.ContainsRune(name, ' ') || len(name) > mail.MaxDomain {
		c.send(replyNeedName)
		return
	}
	c.endTransaction()
	c.greeted = false
	c.peer.Helo, c.peer.ESMTP = name, esmtp
	if !esmtp {
		c.peer.Identity = ""
	}
	r := checked(c.session.Hello(c.ctx, name, esmtp), mail.Reply{Code: 250, Lines: []string{c.server.Name}})
	if !r.Positive() {
		c.send(r)
		return
	}
	c.greeted = true
	r.Enhanced = mail.EnhancedCode{} // RFC 2034 section 4
	if esmtp {
		r.Lines = append(r.Lines[:len(r.Lines):len(r.Lines)], c.keywords()...)
	}
	c.send(r)
}

func (c *connection) mail(arg string) {
	switch {
	case !c.greeted:
		c.send(replyHelloFirst)
		return
	case c.open:
		c.send(replyNested)
		return
	case over(c.messages+1, c.limits.Messages):
		c.send(replyTooManyMails)
		return
	}
	raw, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		c.send(replyBadFrom)
		return
	}
	raw = strings.TrimLeft(raw, " ")
	from, rest, err := mail.CutReversePath(raw)
	if err != nil || from.Route() != "" {
		c.mailRaw(raw, addressRefusal(err, "5.1.7", replyRouteFrom))
		return
	}
	var p mail.SenderParams
	if r := c.parameters(rest, "MAIL", func(e *extension, q parameter) (bool, mail.Reply) {
		if e.mail == nil {
			return false, mail.Reply{}
		}
		return e.mail(&p, q)
	}); !r.IsZero() {
		c.send(r)
		return
	}
	if from.Address().NeedsUTF8() && !p.UTF8 {
		c.send(replyNeedsUTF8)
		return
	}
	if over(p.Size, c.limits.MessageSize) {
		c.send(replyTooLarge)
		return
	}
	r := checked(c.session.Mail(c.ctx, from, p), replyMail)
	c.opened(r)
	c.utf8 = c.open && p.UTF8
	c.send(r)
}

// opened begins a transaction if r allows it.
func (c *connection) opened(r mail.Reply) {
	c.open = r.Positive()
	if c.open {
		c.messages++
	}
}

// mailRaw lets a careless session have what the parser refused.
func (c *connection) mailRaw(raw string, refusal mail.Reply) {
	r := refusal
	if s, ok := c.session.(RawPaths); ok {
		r = checked(s.MailRaw(c.ctx, raw), refusal)
		c.opened(r)
	}
	c.send(r)
}

func (c *connection) rcpt(arg string) {
	switch {
	case !c.open:
		c.send(replyMailFirst)
		return
	case over(c.rcpts+1, c.limits.Recipients):
		c.send(replyTooManyRcpt)
		return
	}
	raw, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		c.send(replyBadTo)
		return
	}
	raw = strings.TrimLeft(raw, " ")
	to, rest, err := mail.CutForwardPath(raw)
	if err != nil || to.Route() != "" {
		c.rcptRaw(raw, addressRefusal(err, "5.1.3", replyRouteTo))
		return
	}
	var p mail.RecipientParams
	if r := c.parameters(rest, "RCPT", func(e *extension, q parameter) (bool, mail.Reply) {
		if e.rcpt == nil {
			return false, mail.Reply{}
		}
		return e.rcpt(&p, q)
	}); !r.IsZero() {
		c.send(r)
		return
	}
	if to.Address().NeedsUTF8() && !c.utf8 {
		c.send(replyNeedsUTF8)
		return
	}
	c.accepted(checked(c.session.Rcpt(c.ctx, to, p), replyNotAccepted))
}

func (c *connection) rcptRaw(raw string, refusal mail.Reply) {
	r := refusal
	if s, ok := c.session.(RawPaths); ok {
		r = checked(s.RcptRaw(c.ctx, raw), refusal)
	}
	c.accepted(r)
}

func (c *connection) accepted(r mail.Reply) {
	if r.Positive() {
		c.rcpts++
	}
	c.send(r)
}

func (c *connection) rset(string) {
	c.endTransaction()
	c.send(replyReset)
}

func (c *connection) quit(string) {
	c.endTransaction()
	c.close(replyBye, nil)
}

func (c *connection) verify(arg string) {
	s, ok := c.session.(Verifier)
	switch {
	case arg == "":
		c.send(mail.NewReply(501, "5.5.4", "Write VRFY name"))
	case ok:
		c.send(checked(s.Verify(c.ctx, arg), replyVerify))
	default:
		c.send(replyVerify)
	}
}

// addressRefusal says where an address stops being one.
func addressRefusal(err error, enhanced string, route mail.Reply) mail.Reply {
	var syntax *mail.SyntaxError
	if !errors.As(err, &syntax) {
		return route
	}
	text := syntax.Text
	if len(text) > 40 {
		text = text[:40] + "..."
	}
	return mail.NewReply(501, enhanced, fmt.Sprintf("%+q is not an address we can read (at character %d: %s)", text, syntax.At+1, syntax.What))
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
