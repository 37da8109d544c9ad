package probe

import (
	"fmt"
	"strings"
	"time"

	"postern/mail"
	"postern/plan"
)

// A Message is what every probe sends: its token where a relay may leave it,
// and in plain words who sends this and why.
type Message struct {
	Token     plan.Token
	From      mail.Address // where the collector takes answers
	Recipient mail.Address // the token's address at the collector
	Target    string       // the tested address, for who finds the message
	Form      string
	Date      time.Time
	Note      string // contact and reason, one line; "" for none
}

// String returns the message with CRLF line ends, less than 4 KiB, with no
// line that needs dot-stuffing.
func (m Message) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: Postern check <%s>", m.From)
	line("To: undisclosed-recipients:;")
	line("Subject: Postern relay check %s", m.Token)
	line("Date: %s", m.Date.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	line("Message-ID: <%s@%s>", m.Token, m.From.Domain())
	line("MIME-Version: 1.0")
	line("Content-Type: text/plain; charset=us-ascii")
	line("Auto-Submitted: auto-generated") // RFC 3834 section 5: nobody shall answer this by machine
	line("X-Postern-Check: %s", m.Token)
	line("")
	line("This is a test by Postern whether %s relays mail for strangers.", m.Target)
	line("It was asked for by the administrator of that server. It carries")
	line("nothing but its token and goes nowhere but back to the tester.")
	if m.Note != "" {
		line("%s", m.Note)
	}
	line("")
	line("token: %s", m.Token)
	line("form: %s", m.Form)
	return b.String()
}
