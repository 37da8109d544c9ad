package smtp

import (
	"fmt"
	"strconv"

	"postern/mail"
)

// The engine's own replies. They name what to do where there is something.
var (
	replyOK        = mail.NewReply(250, "2.0.0", "OK")
	replyNoop      = mail.NewReply(250, "2.0.0", "OK")
	replyReset     = mail.NewReply(250, "2.0.0", "Transaction ended")
	replyMail      = mail.NewReply(250, "2.1.0", "Sender OK")
	replyStart     = mail.NewReply(354, "", "End the message with <CRLF>.<CRLF>")
	replyBye       = mail.NewReply(221, "2.0.0", "Bye")
	replyVerify    = mail.NewReply(252, "2.5.2", "Not verified here; send the message and see")
	replyHelp      = mail.NewReply(214, "2.0.0", "See RFC 5321")
	replyStartTLS  = mail.NewReply(220, "2.0.0", "Begin TLS now")
	replyLoggedIn  = mail.NewReply(235, "2.7.0", "Logged in")
	replyChallenge = 334

	replyUnknown     = mail.NewReply(500, "5.5.1", "Command not recognised")
	replyForeign     = mail.NewReply(421, "4.7.0", "This is SMTP, and that was another protocol; closing")
	replyNotOffered  = mail.NewReply(502, "5.5.1", "Command not offered here")
	replyNoArgument  = mail.NewReply(501, "5.5.4", "This command takes no parameter")
	replyControl     = mail.NewReply(500, "5.5.2", "Control character in the command; closing")
	replyLineTooLong = mail.NewReply(500, "5.5.2", "Line too long")
	replyBareCommand = mail.NewReply(500, "5.5.2", "Command does not end in CRLF; update your mail program")
	replyEndless     = mail.NewReply(421, "4.5.2", "Line without end; closing")

	replyNeedName     = mail.NewReply(501, "5.5.4", "Give the name of your host, as in EHLO mail.example.org")
	replyHelloFirst   = mail.NewReply(503, "5.5.1", "Say EHLO first")
	replyMailFirst    = mail.NewReply(503, "5.5.1", "Not possible now; expected MAIL")
	replyRcptFirst    = mail.NewReply(503, "5.5.1", "Not possible now; expected an accepted RCPT")
	replyNested       = mail.NewReply(503, "5.5.1", "A transaction is open; expected RCPT, DATA or RSET")
	replyRefusedHere  = mail.NewReply(503, "5.5.1", "Not possible now; expected QUIT")
	replyBadFrom      = mail.NewReply(501, "5.5.4", "Write MAIL FROM:<name@domain>")
	replyBadTo        = mail.NewReply(501, "5.5.4", "Write RCPT TO:<name@domain>")
	replyRouteFrom    = mail.NewReply(501, "5.1.7", "Address form not accepted; use name@domain only")
	replyRouteTo      = mail.NewReply(501, "5.1.3", "Address form not accepted; use name@domain only")
	replyNeedsUTF8    = mail.NewReply(553, "5.6.7", "An international address needs MAIL with SMTPUTF8")
	replyTooManyRcpt  = mail.NewReply(452, "4.5.3", "Too many recipients at once; send the rest again")
	replyTooLarge     = mail.NewReply(552, "5.3.4", "Message is larger than this server takes")
	replyNotAccepted  = mail.NewReply(550, "5.7.1", "Not accepted")
	replyNotStored    = mail.NewReply(451, "4.3.0", "Could not take the message, so we did not accept it; try later")
	replyBadHook      = mail.NewReply(451, "4.3.0", "Local error; try later")
	replyTooManyFails = mail.NewReply(421, "4.7.0", "Too many errors; closing")
	replyTooManyMails = mail.NewReply(421, "4.7.0", "Enough messages for one connection; connect again")
	replyTooManyAuth  = mail.NewReply(421, "4.7.0", "Too many failed logins; closing")
	replyIdle         = mail.NewReply(421, "4.4.2", "Waited too long; closing")
	replyBarren       = mail.NewReply(421, "4.4.2", "No message for too long; connect again when there is one")
	replyDown         = mail.NewReply(421, "4.3.2", "Restarting; come back in a minute")
	replyBusy         = mail.NewReply(421, "4.3.2", "Busy; please retry")
	replyCrowd        = mail.NewReply(421, "4.7.0", "Too many connections from your address; please retry")
)

func replyChunk(n int64) mail.Reply {
	return mail.NewReply(250, "2.0.0", strconv.FormatInt(n, 10)+" octets received")
}

func replyNUL(n int) mail.Reply {
	return mail.NewReply(550, "5.6.0", "Line "+strconv.Itoa(n)+" holds a NUL, which mail cannot carry; closing")
}

func replyBareLine(n int) mail.Reply {
	return mail.NewReply(550, "5.6.0", "Line "+strconv.Itoa(n)+" ends with LF or CR alone, and not with CRLF; update your mail program")
}

func replyLongLine(n, most int) mail.Reply {
	return mail.NewReply(550, "5.6.0", fmt.Sprintf("Line %d is longer than the %d octets that a line may have; update your mail program", n, most))
}

// checked returns r, or an honest failure when a hook gave something that is
// no final reply: a handler's mistake must not become a yes.
func checked(r mail.Reply, zero mail.Reply) mail.Reply {
	switch {
	case r.IsZero():
		return zero
	case r.Code == Hangup.Code, r.Positive(), r.Transient(), r.Permanent():
		return r
	}
	return replyBadHook
}
