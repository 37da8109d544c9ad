package smtp

import (
	"strconv"

	"postern/mail"
)

// size tells the greatest message and lets the client declare its own (RFC 1870).
var size = extension{
	keyword: "SIZE",
	args: func(c *connection) string {
		if c.limits.MessageSize < 0 {
			return "0" // RFC 1870 section 3: no fixed maximum
		}
		return strconv.FormatInt(c.limits.MessageSize, 10)
	},
	mail: func(p *mail.SenderParams, q parameter) (bool, mail.Reply) {
		if q.name != "SIZE" {
			return false, mail.Reply{}
		}
		n, err := strconv.ParseUint(q.value, 10, 63)
		if err != nil || len(q.value) > 20 {
			return true, q.bad()
		}
		p.Size = int64(n)
		return true, mail.Reply{}
	},
}
