package smtp

import "strconv"

// limitsExtension tells the client how much it may send (RFC 9422).
var limitsExtension = extension{
	keyword: "LIMITS",
	offered: func(c *connection) bool { return c.limits.Recipients >= 0 || c.limits.Messages >= 0 },
	args: func(c *connection) string {
		var s string
		if c.limits.Messages >= 0 {
			s = "MAILMAX=" + strconv.Itoa(c.limits.Messages)
		}
		if c.limits.Recipients >= 0 {
			if s != "" {
				s += " "
			}
			s += "RCPTMAX=" + strconv.Itoa(c.limits.Recipients)
		}
		return s
	},
}
