package collect

import (
	"regexp"
	"strings"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

// kindOf tells a probe's own message from a notice about it. In doubt it says
// notice: a message makes a server open, and that must never be said of a
// server that only answered.
//
// A notice may say that the server is still trying, or has handed the message
// on (RFC 3464 section 2.3.3): then nothing has come back.
func kindOf(nullPath bool, recipient string, to plan.Token, h mail.Header, report string, isLive func(string) bool) verdict.ArrivalKind {
	kind := kindOfHeader(nullPath, recipient, to, h, isLive)
	if kind == verdict.Bounce && goesOn.MatchString(report) && !failed.MatchString(report) {
		return verdict.Delay
	}
	return kind
}

// The fields of a report: what was done about a recipient.
var (
	goesOn = regexp.MustCompile(`(?mi)^Action:[ \t]*(delayed|relayed|delivered|expanded)\b`)
	failed = regexp.MustCompile(`(?mi)^Action:[ \t]*failed\b`)
)

func kindOfHeader(nullPath bool, recipient string, to plan.Token, h mail.Header, isLive func(string) bool) verdict.ArrivalKind {
	switch {
	case strings.Contains(strings.ToLower(recipient), "s-"+string(to)):
		return verdict.Bounce // the probe's sender: only answers go there (see plan.Facts)
	case strings.HasPrefix(strings.ToLower(strings.TrimSpace(h.Get("Content-Type"))), "multipart/report"):
		return verdict.Bounce // RFC 6522
	case strings.HasPrefix(strings.ToLower(strings.TrimSpace(h.Get("Auto-Submitted"))), "auto-replied"):
		return verdict.Bounce // RFC 3834 section 5
	case isLive(h.Get("X-Postern-Check")), isLive(h.Get("Message-ID")):
		// At the head of the message itself, not in what a notice returns: this
		// is the probe's, even when its form has the null path for a sender.
		return verdict.Message
	case nullPath:
		return verdict.Bounce // RFC 5321 section 6.1
	}
	return verdict.Message
}
