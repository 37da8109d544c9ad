package verdict

import (
	"strings"
	"time"

	"postern/plan"
)

// keepsItsOwn reports whether a catch-all explains what was taken: each form
// that was ends in the server's own domain, where it takes mail for names that
// nobody has, and every form that ends in a foreign domain was refused.
func (j *Judgement) keepsItsOwn() bool {
	if !j.waitedEnough() || !j.CatchAll || j.Blind != "" || j.Backscatter != nil {
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

// leastWait is how long nothing must have arrived before that means anything:
// servers hand on within seconds what they relay at all.
const leastWait = 5 * time.Second

// waitedEnough reports whether the wait for arrivals has come to its end, and
// was one.
func (j *Judgement) waitedEnough() bool { return !j.Waiting && !j.Cut && j.Waited >= leastWait }

// settle gives what was taken its state, once what it means is known.
func (j *Judgement) settle(s State, why string) {
	for i, f := range j.Forms {
		if f.State == Accepted {
			j.Forms[i].State, j.Forms[i].Reason = s, why
		}
	}
}

// returnsTheRest reports whether nearly everything that was taken came back,
// the plainest form among it: a server has many notices to send then, and some
// come late. What it relays would have come with the first.
func (j *Judgement) returnsTheRest(accepted int) bool {
	plain, back := false, 0
	for _, f := range j.Forms {
		if f.State == Bounced && f.Arrival != nil {
			back++ // with a notice of its own
		}
		plain = plain || f.Form.ID == "plain" && f.State == Bounced
	}
	return j.waitedEnough() && j.Blind == "" && plain && back >= nearlyAll*accepted
}

// nearlyAll is how many must have come back for each that has not.
const nearlyAll = 10

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
