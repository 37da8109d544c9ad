package verdict

import (
	"strings"

	"postern/plan"
)

// keepsItsOwn reports whether a catch-all explains what was taken: each form
// that was ends in the server's own domain, where it takes mail for names that
// nobody has, and every form that ends in a foreign domain was refused.
func (j *Judgement) keepsItsOwn() bool {
	if j.Waiting || !j.CatchAll || j.Blind != "" || j.Backscatter != nil {
		return false // a server that returns what it has no mailbox for does not keep it
	}
	foreign := 0
	for _, f := range j.Forms {
		if f.Form.Set == plan.Info || f.Outcome == NotRun && f.Needs {
			continue
		}
		realm := f.Form.Realm()
		switch {
		case f.State == Accepted && (realm != plan.Home || !j.takesAnyAt(f.Envelope.Recipient)):
			return false
		case realm != plan.Foreign:
		case f.State != Refused && f.State != Bounced:
			return false
		default:
			foreign++
		}
	}
	return foreign > 0
}

// keep gives what a catch-all took to the server's own mailboxes.
func (j *Judgement) keep() {
	for i, f := range j.Forms {
		if f.State == Accepted {
			j.Forms[i].State, j.Forms[i].Reason = Local, "a catch-all of its own domain took it, and nothing came of it"
		}
	}
}

// takesAnyAt reports whether the domain in which a recipient ends takes mail
// for a name that nobody has. Where that domain was not asked, the server's
// main one speaks for it.
func (j *Judgement) takesAnyAt(recipient string) bool {
	for _, a := range j.Asked {
		if a.Control == UnknownRecipient && !a.AtMail && strings.EqualFold(lastDomain(a.Recipient), lastDomain(recipient)) {
			return a.Reply.Positive()
		}
	}
	return j.CatchAll
}

func lastDomain(recipient string) string {
	if i := strings.LastIndexByte(recipient, '@'); i >= 0 && !strings.HasSuffix(recipient, `"`) {
		return recipient[i+1:]
	}
	return ""
}
