package bounce

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"postern/mail"
)

// maxQuote is how much of a peer's words is quoted.
const maxQuote = 1500

// fields is the part that programs read (RFC 3464 section 2, RFC 6533 section 3).
func (n Notice) fields() part {
	global := false
	for _, r := range n.Recipients {
		global = global || r.To.Path.Address().NeedsUTF8() || !isASCII([]byte(r.To.Params.ORcpt))
	}
	var b bytes.Buffer
	field := func(name, body string) {
		b.WriteString(name + ": " + shorten(visible(body, global), 900) + "\r\n")
	}
	quote := func(name, kind, words string) {
		// Folded like a header field, and no line of it is only white space.
		for i, line := range wrap(kind+"; "+visible(shorten(words, maxQuote), global), 76-len(name)) {
			if i == 0 {
				b.WriteString(name + ": " + line + "\r\n")
			} else if line != "" {
				b.WriteString(" " + line + "\r\n")
			}
		}
	}
	date := func(name string, t time.Time) {
		if !t.IsZero() {
			field(name, t.Format(time.RFC1123Z))
		}
	}
	if id := cutXtext(n.EnvID); id != "" {
		field("Original-Envelope-Id", id)
	}
	field("Reporting-MTA", "dns; "+n.Host)
	date("Arrival-Date", n.Arrived)
	for _, r := range n.Recipients {
		b.WriteString("\r\n")
		if kind, addr, ok := strings.Cut(r.To.Params.ORcpt, ";"); ok {
			// The utf-8 type has an encoding of its own (RFC 6533 section 3).
			if !strings.EqualFold(kind, "utf-8") {
				addr = cutXtext(addr)
			}
			field("Original-Recipient", cutXtext(kind)+"; "+addr)
		}
		addr := r.To.Path.Address()
		kind := "rfc822; "
		if addr.NeedsUTF8() {
			kind = "utf-8; "
		}
		field("Final-Recipient", kind+addr.String())
		field("Action", string(n.action(r)))
		field("Status", n.status(r).String())
		if r.RemoteMTA != "" {
			field("Remote-MTA", "dns; "+r.RemoteMTA)
		}
		switch {
		case !r.Reply.IsZero():
			quote("Diagnostic-Code", "smtp", r.Reply.String())
		case r.Note != "":
			quote("Diagnostic-Code", "x-postern", r.Note)
		}
		date("Last-Attempt-Date", r.LastAttempt)
		if n.action(r) == ActionDelayed {
			date("Will-Retry-Until", r.RetryUntil)
		}
	}
	if !global {
		return encode("message/delivery-status", b.Bytes())
	}
	return encode("message/global-delivery-status", b.Bytes())
}

func (n Notice) action(r Recipient) Action {
	if r.Action != "" {
		return r.Action
	}
	switch n.Kind {
	case Failed:
		return ActionFailed
	case Delayed:
		return ActionDelayed
	case Delivered:
	}
	return ActionDelivered
}

// status is what the caller says, else what the peer said, else what the
// class of its words is worth. A failure after many attempts keeps the 4 of
// the last one: it was time that ran out, as it is where nobody answered.
func (n Notice) status(r Recipient) mail.EnhancedCode {
	switch {
	case r.Status != (mail.EnhancedCode{}):
		return r.Status
	case n.action(r) != ActionFailed && n.action(r) != ActionDelayed:
		if r.Reply.Enhanced.Class == 2 {
			return r.Reply.Enhanced
		}
		return mail.EnhancedCode{Class: 2}
	case r.Reply.Enhanced.Class >= 4 && int(r.Reply.Enhanced.Class) == r.Reply.Code/100:
		return r.Reply.Enhanced
	}
	e := mail.EnhancedCode{Class: 5}
	if n.action(r) == ActionDelayed || r.Reply.Transient() {
		e.Class = 4
	}
	class := Classify(r.Reply, r.Note)
	if class == Network && !r.Reply.Permanent() {
		e.Class = 4
	}
	switch class {
	case BadAddress:
		e.Subject, e.Detail = 1, 1
	case BadDomain:
		e.Subject, e.Detail = 1, 2
	case MailboxFull:
		e.Subject, e.Detail = 2, 2
	case MailboxOff:
		e.Subject, e.Detail = 2, 1
	case TooLarge:
		e.Subject, e.Detail = 3, 4
	case Policy, Reputation, Greylisted:
		e.Subject, e.Detail = 7, 1
	case Auth:
		e.Subject = 7
	case Rate:
		e.Subject, e.Detail = 4, 5
	case Protocol:
		e.Subject = 5
	case Network:
		e.Subject, e.Detail = 4, 1
	case Loop:
		e.Subject, e.Detail = 4, 6
	case Unknown, classes:
	}
	return e
}

// cutXtext decodes xtext (RFC 3461 section 4). What is none stays as it is.
func cutXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
