package smtp

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"postern/mail"
)

// auth lets the client log in (RFC 4954). Without TLS it is not offered: a
// password must not be asked for where all can read it.
var auth = extension{
	keyword: "AUTH",
	offered: func(c *connection) bool {
		a, ok := c.session.(Authenticator)
		return ok && (c.peer.TLS != nil || c.server.PlainAuth) && len(a.Mechanisms()) > 0
	},
	args: func(c *connection) string {
		if a, ok := c.session.(Authenticator); ok {
			return strings.Join(a.Mechanisms(), " ")
		}
		return ""
	},
	mail: func(p *mail.SenderParams, q parameter) (bool, mail.Reply) {
		if q.name != "AUTH" {
			return false, mail.Reply{}
		}
		if q.value != "<>" && (!q.given || len(q.value) > 500 || !isXtext(q.value)) {
			return true, q.bad()
		}
		p.Auth = q.value
		return true, mail.Reply{}
	},
}

var (
	replyBadBase64   = mail.NewReply(501, "5.5.2", "That is no base64")
	replyCancelled   = mail.NewReply(501, "5.7.0", "Login cancelled")
	replyAuthLong    = mail.NewReply(500, "5.5.6", "Login response too long")
	replyNoMechanism = mail.NewReply(504, "5.5.4", "This login method is not offered here")
	replyAuthTwice   = mail.NewReply(503, "5.5.1", "Already logged in")
	replyAuthOpen    = mail.NewReply(503, "5.5.1", "No login within a transaction")
	replyBadLogin    = mail.NewReply(535, "5.7.8", "User name or password is wrong")

	errAuthGivenUp = errors.New("the client gave up the login")
)

func (c *connection) auth(arg string) {
	switch {
	case !c.greeted || !c.peer.ESMTP:
		c.send(replyHelloFirst)
		return
	case c.peer.Identity != "":
		c.send(replyAuthTwice)
		return
	case c.open:
		c.send(replyAuthOpen)
		return
	}
	a, ok := c.session.(Authenticator)
	mechanism, initial, given := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	if !ok || !slices.Contains(a.Mechanisms(), mechanism) {
		c.send(replyNoMechanism)
		return
	}
	var first []byte // nil: none was given; empty: "="
	if given {
		first = []byte{}
		if initial != "=" {
			var err error
			if first, err = base64.StdEncoding.Strict().DecodeString(initial); err != nil {
				c.send(replyBadBase64)
				return
			}
		}
	}
	e := exchange{c: c}
	identity, r := a.Auth(c.ctx, mechanism, first, e.challenge)
	if c.done {
		return
	}
	if !e.refusal.IsZero() {
		r = e.refusal
	}
	c.loggedIn(identity, checked(r, replyBadLogin))
}

// loggedIn answers AUTH. The identity counts with 235 only.
func (c *connection) loggedIn(identity string, r mail.Reply) {
	if r.Positive() {
		if r.Code != 235 || identity == "" {
			r = replyBadHook
		} else {
			c.peer.Identity = identity
		}
	}
	if r.Permanent() || r.Transient() {
		c.authErrs++
		if over(c.authErrs, c.limits.AuthErrors-1) && c.limits.AuthErrors > 0 {
			r = replyTooManyAuth
		}
	}
	c.send(r)
}

// An exchange is the challenges and responses of one AUTH command.
type exchange struct {
	c       *connection
	refusal mail.Reply // why it ended early
}

func (e *exchange) challenge(text []byte) ([]byte, error) {
	c := e.c
	if c.done || !e.refusal.IsZero() {
		return nil, errAuthGivenUp
	}
	c.send(mail.Reply{Code: replyChallenge, Lines: []string{base64.StdEncoding.EncodeToString(text)}})
	rule := c.rule
	rule.max = c.limits.AuthLine
	line, err := c.in.line(&rule)
	switch {
	case errors.Is(err, ErrLineTooLong):
		e.refusal = replyAuthLong
		return nil, err
	case err != nil:
		c.lineFailed(err)
		return nil, err
	case string(line) == "*": // RFC 4954 section 4
		e.refusal = replyCancelled
		return nil, errAuthGivenUp
	}
	response, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if err != nil {
		e.refusal = replyBadBase64
		return nil, err
	}
	return response, nil
}
