package smtp

import "postern/mail"

// smtpUTF8 takes addresses and header fields in UTF-8 (RFC 6531).
var smtpUTF8 = extension{
	keyword: "SMTPUTF8",
	mail: func(p *mail.SenderParams, q parameter) (bool, mail.Reply) {
		if q.name != "SMTPUTF8" {
			return false, mail.Reply{}
		}
		if q.given {
			return true, q.bad()
		}
		p.UTF8 = true
		return true, mail.Reply{}
	},
}
