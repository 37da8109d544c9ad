package smtp

import (
	"strings"

	"postern/mail"
)

// eightBitMIME takes messages with octets above 127 (RFC 6152). BINARYMIME is
// not taken: a line of any length and ending could not be handed on by DATA.
var eightBitMIME = extension{
	keyword: "8BITMIME",
	mail: func(p *mail.SenderParams, q parameter) (bool, mail.Reply) {
		if q.name != "BODY" {
			return false, mail.Reply{}
		}
		switch b := mail.Body(strings.ToUpper(q.value)); b {
		case mail.Body7Bit, mail.Body8BitMIME:
			p.Body = b
			return true, mail.Reply{}
		case mail.BodyBinary:
			return true, mail.NewReply(555, "5.5.4", "BODY=BINARYMIME is not supported")
		}
		return true, q.bad()
	},
}
