package verdict

import (
	"strings"

	"postern/mail"
)

func (e Evidence) asked(c Control) Asked {
	var last Asked
	for _, a := range e.Asked {
		if a.Control != c {
			continue
		}
		if a.Reply.Positive() {
			return a
		}
		if last.Reply.IsZero() || !a.Reply.IsZero() {
			last = a
		}
	}
	return last
}

// controlPassed reports whether the server judged the control recipient on
// its merits: it took it, or it knows the domain and lacks the mailbox, which
// no block of our address would say.
func (e Evidence) controlPassed() bool {
	for _, a := range e.Asked {
		if a.Control == KnownRecipient && !a.AtMail && (a.Reply.Positive() || e.unknownUser(a.Reply)) {
			return true
		}
	}
	return false
}

// unknownUser reports whether a refusal of a control says that its mailbox is
// missing. Words that may mean relaying too count where relaying is refused in
// other words.
func (e Evidence) unknownUser(r mail.Reply) bool {
	if !r.Permanent() {
		return false
	}
	return MeaningOf(r) == UnknownUser || MeaningOf(r) == "" && vague(r) && e.plain(func(x Exchange) bool { return MeaningOf(x.Reply) == DeniesRelay })
}

// NoPostmaster returns the address of a postmaster that the server refuses
// though it serves the domain, "" when it has one. RFC 5321 section 4.5.1
// demands one of every domain.
func (e Evidence) NoPostmaster() string {
	for _, a := range e.Asked {
		local, _, _ := strings.Cut(a.Recipient, "@")
		if a.Control == KnownRecipient && !a.AtMail && strings.EqualFold(local, "postmaster") && e.unknownUser(a.Reply) {
			return a.Recipient
		}
	}
	return ""
}

// demandsLogin reports whether the port is one where nobody gets in without a
// login: it says so before a recipient is named, or of its own recipients too;
// or it is a submission port (RFC 6409, RFC 8314) that offers AUTH and refuses
// its own recipients as firmly as strangers'.
func (e Evidence) demandsLogin() bool {
	_, offers := e.Session.Extensions["AUTH"]
	if submission := e.Addr.Port() == 465 || e.Addr.Port() == 587; submission && offers && e.asked(KnownRecipient).Reply.Permanent() {
		return true
	}
	everybody := false
	for _, a := range e.Asked {
		if a.Control != KnownRecipient || a.Reply.IsZero() {
			continue
		}
		if !e.wantsAuth(a) {
			return false
		}
		// Without a domain it is the server's own (RFC 5321 section 4.5.1).
		everybody = everybody || a.AtMail || a.Reply.Code == 530 || !strings.Contains(a.Recipient, "@")
	}
	return everybody
}

// wantsAuth reports whether a refusal asks for a login, and not for TLS first.
// "Blocked; log in to be removed" is about our address, and "the sender is
// unauthenticated" about our domain.
func (e Evidence) wantsAuth(a Asked) bool {
	// Postfix says "Sender address rejected" before any words of its rules at
	// MAIL, and 530 is for logins alone (RFC 4954 section 6).
	words := strings.ReplaceAll(wordsOf(a.Reply), "sender address rejected", "")
	if !a.Reply.Permanent() || saysAny(linked(a.Reply), blockWords) || a.Reply.Code != 530 && saysAny(words, senderWords) {
		return false
	}
	_, tls := e.Session.Extensions["STARTTLS"]
	switch MeaningOf(a.Reply) {
	case WantsAuth:
		// A bare 530 may mean TLS as well (RFC 3207 section 4).
		return e.Session.TLS != "" || !tls || says(wordsOf(a.Reply), "auth") || says(wordsOf(a.Reply), "log")
	case DeniesRelay:
		return a.AtMail && strings.Contains(wordsOf(a.Reply), "authenticat") // before it knew to whom
	case UnknownUser, UnknownHost, WantsTLS, BlocksUs, BadContent, TryLater:
	}
	return false
}

// subaddress reports whether the form's recipient is a control mailbox with
// an extension (RFC 5233), which belongs to that mailbox and to nobody else.
func (e Evidence) subaddress(x Exchange) bool {
	if x.Envelope.RecipientParams != "" {
		return false
	}
	to, err := mail.ParseAddress(x.Envelope.Recipient)
	if err != nil {
		return false
	}
	base, _, plus := strings.Cut(to.Local(), "+")
	for _, a := range e.Asked {
		known, err := mail.ParseAddress(a.Recipient)
		if plus && err == nil && a.Control == KnownRecipient && a.Reply.Positive() &&
			strings.EqualFold(known.Local(), base) && known.Domain().Equal(to.Domain()) {
			return true
		}
	}
	return false
}

// controlRefused says why refusals may mean only us.
func (j *Judgement) controlRefused() (why, do string) {
	control := j.asked(KnownRecipient)
	switch {
	case control.Reply.IsZero():
		return "the control recipient was never answered, so a refusal may mean only us", "try again later, or name a mailbox of the server: --recipient ADDRESS"
	case control.Reply.Transient():
		return "greylisted: the control recipient was put off too (" + control.Reply.String() + ")",
			"wait longer, the check comes again by itself: --wait 30m"
	case MeaningOf(control.Reply) == WantsTLS:
		return "demands TLS first (" + control.Reply.String() + "), and TLS could not be made", "see the transcript of the form starttls"
	case control.AtMail:
		return "refuses our sender address, so the recipients were never judged (" + control.Reply.String() + ")",
			"give the sender's domain an MX that the server can resolve (--zone), or another sender: --from ADDRESS"
	}
	if MeaningOf(control.Reply) == DeniesRelay {
		return "which domain it serves is not known: it refuses to relay for the postmaster at each name that was tried, " + control.Recipient + " the last (" + control.Reply.String() + ")",
			"name a mailbox or a domain that the server serves: --recipient ADDRESS, --domain NAME"
	}
	return "refused the control recipient " + control.Recipient + " too (" + control.Reply.String() + "), so it may be only us that it refuses",
		"name a mailbox or a domain that the server serves: --recipient ADDRESS, --domain NAME"
}
