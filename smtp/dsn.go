package smtp

import (
	"strings"

	"postern/mail"
)

// dsn lets the client say which notices it wants (RFC 3461).
var dsn = extension{
	keyword: "DSN",
	mail: func(p *mail.SenderParams, q parameter) (bool, mail.Reply) {
		switch q.name {
		case "RET":
			switch r := mail.Ret(strings.ToUpper(q.value)); r {
			case mail.RetFull, mail.RetHeaders:
				p.Ret = r
				return true, mail.Reply{}
			}
			return true, q.bad()
		case "ENVID": // section 4.4: up to 100 characters
			if !q.given || len(q.value) > 100 || !isXtext(q.value) {
				return true, q.bad()
			}
			p.EnvID = q.value
			return true, mail.Reply{}
		}
		return false, mail.Reply{}
	},
	rcpt: func(p *mail.RecipientParams, q parameter) (bool, mail.Reply) {
		switch q.name {
		case "NOTIFY":
			n, ok := parseNotify(q.value)
			if !ok {
				return true, q.bad()
			}
			p.Notify = n
			return true, mail.Reply{}
		case "ORCPT": // section 4.2: up to 500 characters
			kind, addr, ok := strings.Cut(q.value, ";")
			if !ok || kind == "" || addr == "" || len(q.value) > 500 || !isXtext(kind) || !isOrcpt(addr) {
				return true, q.bad()
			}
			p.ORcpt = q.value
			return true, mail.Reply{}
		}
		return false, mail.Reply{}
	},
}

// parseNotify reads the value of NOTIFY; NEVER stands alone.
func parseNotify(s string) (mail.Notify, bool) {
	var set mail.Notify
	for word := range strings.SplitSeq(strings.ToUpper(s), ",") {
		var n mail.Notify
		switch word {
		case "NEVER":
			n = mail.NotifyNever
		case "SUCCESS":
			n = mail.NotifySuccess
		case "FAILURE":
			n = mail.NotifyFailure
		case "DELAY":
			n = mail.NotifyDelay
		default:
			return 0, false
		}
		if set&n != 0 {
			return 0, false
		}
		set |= n
	}
	if set&mail.NotifyNever != 0 && set != mail.NotifyNever {
		return 0, false
	}
	return set, true
}

// isOrcpt reports whether s is xtext, or UTF-8 in its place (RFC 6533 section 3).
func isOrcpt(s string) bool {
	ascii := strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return 'u'
		}
		return r
	}, s)
	return isXtext(ascii)
}
