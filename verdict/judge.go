package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/mail"
	"postern/plan"
)

// enough is the share of the battery below which nothing is called closed.
const enough = 0.9

// Judge says what the evidence proves. Only an arrival makes a port open;
// only a control that passed makes refusals mean closed.
func Judge(e Evidence) Judgement {
	j := Judgement{Evidence: e}
	if e.NotTested != "" {
		j.Verdict, j.Why, j.Do = NotTested, e.NotTested, e.Do
		if e.Named {
			j.Verdict = Inconclusive // there was something to test
		}
		return j
	}
	j.CatchAll = e.asked(UnknownRecipient).Reply.Positive()
	arrivals := byToken(slices.DeleteFunc(slices.Clone(e.Arrivals), func(a Arrival) bool { return a.Kind == Delay }))
	for _, x := range e.Exchanges {
		r := e.state(x, arrivals[x.Token])
		if r.State == Bounced && j.Backscatter == nil {
			j.Backscatter = r.Arrival
		}
		j.Forms = append(j.Forms, r)
	}
	if !e.Waiting {
		j.explain()
	}
	j.measure()
	if e.proxied() {
		j.decideProxy()
		return j
	}
	j.decide()
	return j
}

// explain settles forms whose notice cannot come to us, because their sender
// is an address of the server's own: when the same recipient came back to a
// sender of ours, it went nowhere for that sender either. Had the sender made
// a difference, the message would have arrived.
func (j *Judgement) explain() {
	back := map[string]string{}
	for _, f := range j.Forms {
		if f.State == Bounced {
			back[recipientShape(f)] = f.Form.ID
		}
	}
	for i, f := range j.Forms {
		if id := back[recipientShape(f)]; f.State == Accepted && id != "" && !j.late(f) {
			j.Forms[i].State = Bounced
			j.Forms[i].Reason = "the same recipient came back in form " + id
		}
	}
}

// late reports whether a notice says that a form's message waits in a queue,
// or was handed on: it is still under way.
func (j *Judgement) late(f FormResult) bool {
	return slices.ContainsFunc(j.Arrivals, func(a Arrival) bool { return a.Kind == Delay && slices.Contains(a.Tokens, f.Token) })
}

// lateOnes returns how many of the forms that were taken are late.
func (j *Judgement) lateOnes() int {
	n := 0
	for _, f := range j.Forms {
		if f.State == Accepted && j.late(f) {
			n++
		}
	}
	return n
}

// recipientShape is the recipient with the token taken out.
func recipientShape(f FormResult) string {
	return strings.ReplaceAll(f.Envelope.Recipient, string(f.Token), "{token}")
}

func (j *Judgement) decide() {
	if proof := j.proof(); proof != nil {
		j.Verdict, j.Proof = Open, proof
		j.Why = plan.Why(proof.Form.Hole)
		if proof.Kind == KindForward {
			if proof.Lost {
				j.Why = fmt.Sprintf("a mail proxy answers at the port and leads to %s, which takes every stranger for its neighbour %s", proof.Hops[0].By, proof.SeenFrom)
				return
			}
			j.Why = fmt.Sprintf("the port is forwarded to %s, which takes every stranger for its customer %s", proof.EgressName, j.Addr.Addr())
			if proof.Sure == Guess {
				j.Why = "it seems that " + j.Why
			}
		}
		return
	}
	why, do := j.doubt()
	switch n := j.Count(Accepted); {
	case n > 0 && (why != "" || j.lateOnes() > 0 || !j.keepsItsOwn() && !j.returnsTheRest(n)):
		j.Verdict = Accepts
		j.Why, j.Do = j.accepts(n)
	case why != "":
		j.Verdict, j.Why, j.Do = Inconclusive, why, do
	default:
		j.Verdict, j.Sure = Closed, Certain
		j.Why = j.closed()
		if n > 0 {
			// What was refused, or came back, is certain; what was kept may still come out.
			j.Sure = Likely
			if j.Backscatter != nil {
				j.Why += fmt.Sprintf("; of %d forms like the %d that came back neither a notice nor a message arrived in %s", n, j.Count(Bounced), j.Waited.Round(time.Second))
				j.settle(Bounced, "nearly all like it came back, and nothing came of it")
				return
			}
			j.Why = fmt.Sprintf("every form that ends in a foreign domain was refused; it keeps whatever ends in its own (a catch-all), and of the %d such forms that it could still unwrap nothing arrived in %s", n, j.Waited.Round(time.Second))
			j.settle(Local, "a catch-all of its own domain took it, and nothing came of it")
		}
	}
}

func (j *Judgement) accepts(n int) (why, do string) {
	why = fmt.Sprintf("took the messages of %d forms", n)
	if j.Blind != "" {
		return why + "; arrivals could not be seen: " + j.Blind,
			"give the check a collector, so that what it took can prove where it goes: --collector DOMAIN"
	}
	why += fmt.Sprintf(", nothing arrived in %s", j.Waited.Round(time.Second))
	if j.Cut {
		return why + ", when the wait was cut short", "run the check to its end"
	}
	if late := j.lateOnes(); late > 0 {
		return why + fmt.Sprintf("; notices say of %d of them that they are late, or were handed on", late),
			"look at the server's queue and log for the token, or wait longer: --wait"
	}
	if j.CatchAll {
		return why + "; it takes mail for unknown recipients too, so a catch-all may explain this",
			"refuse unknown recipients, then check again"
	}
	return why + "; a catch-all or a trap does the same",
		"look at the server's queue and log for the token, or wait longer: --wait"
}

// doubt returns why nothing can be concluded from refusals, or "".
func (j *Judgement) doubt() (why, do string) {
	switch {
	case j.Session.Banner.Code != 220 && !j.Session.Banner.IsZero():
		return "refuses us before the first command: " + j.Session.Banner.String(),
			"test from another address, or take this one off the server's block list"
	case len(j.Exchanges) == 0:
		return "no form could be played", "see the transcript, or try again later"
	}
	if why, do := j.unsent(); why != "" {
		if about, help := j.notOfRelaying(); about != "" {
			return about, help // that is why nothing more was sent
		}
		return why, do
	}
	if j.Cut {
		return j.cutShort()
	}
	if !j.controlPassed() && !j.demandsLogin() {
		return j.controlRefused()
	}
	if x, deferred := j.firstDeferred(); deferred {
		return fmt.Sprintf("put off (%s) without a final answer", x.Reply), "wait longer, the check comes again by itself: --wait 30m"
	}
	if r, ok := j.domainBlamed(); ok {
		return "the recipient's domain was refused, not relaying (" + r.String() + ")",
			"give the check a domain that the server can resolve: --collector DOMAIN, --zone NAME"
	}
	if why, do := j.notOfRelaying(); why != "" {
		return why, do
	}
	if j.Tested < enough || j.coreUntested() {
		return "too much of the battery could not be played: " + j.firstReason(), "try again later; the server may limit how often one address connects"
	}
	return "", ""
}

// cutShort says that the wait for arrivals did not come to its end.
func (j *Judgement) cutShort() (why, do string) {
	return fmt.Sprintf("the wait for arrivals was cut short after %s", j.Waited.Round(time.Second)), "run the check to its end"
}

// unsent returns why the answer of forms is not known whose recipient was
// accepted: what the server does with the message was not seen.
func (j *Judgement) unsent() (why, do string) {
	n, held := 0, ""
	for _, f := range j.Forms {
		if f.Outcome == Passed {
			n++
			if held == "" || held == NoDSN {
				held = f.Why
			}
		}
	}
	if n == 0 {
		return "", ""
	}
	do = "name a domain that the server serves, so that the messages may be sent: --domain NAME"
	if held == NoDSN {
		do = "look at the server's queue and log for the token of the form plain, then check again"
	}
	if j.Blind != "" {
		do = "give the check a collector, so that messages can be sent and seen to arrive: --collector DOMAIN"
	}
	return fmt.Sprintf("accepted the recipients of %d forms, and no message was sent: %s", n, held), do
}

// notOfRelaying returns why a refusal says nothing of relaying: that of the
// plainest form when its words are about our address, from which many servers
// let mail for their postmaster pass all the same; that of any form whose
// recipient was taken, when its words are about what stood in the message.
// What is hidden in a message for a mailbox of the server is no such form:
// there a refusal of the message is the answer.
func (j *Judgement) notOfRelaying() (why, do string) {
	for _, x := range j.Exchanges {
		if x.Outcome != Denied {
			continue
		}
		late := x.Stage == AtData || x.Stage == AtMessage
		switch means := MeaningOf(x.Reply); {
		case means == BlocksUs && x.Form.ID == "plain":
			return "refuses our address, and may not refuse others (" + x.Reply.String() + ")", "test from another address, or take this one off the server's block list"
		case late && means == BadContent && x.Form.Set != plan.Owner:
			return "took the recipient and refused what stood in the message, which may not be so of another (" + x.Reply.String() + ")",
				"let the check's messages pass the server's filter, then check again"
		}
	}
	return "", ""
}

func (j *Judgement) closed() string {
	switch {
	case j.Backscatter != nil:
		return "closed, but it took mail for addresses that it does not serve and returned it to the forged sender (backscatter)"
	case j.demandsLogin() && !j.controlPassed():
		return "nobody gets in without a login"
	}
	return "every form was refused; controls passed"
}

// state decides one form.
func (e Evidence) state(x Exchange, arrivals []Arrival) FormResult {
	r := FormResult{Exchange: x}
	for i := range arrivals {
		if arrivals[i].Kind == Message {
			r.State, r.Arrival = Arrived, &arrivals[i]
			return r
		}
	}
	if e.proxied() {
		return e.proxyState(r, arrivals)
	}
	switch x.Outcome {
	case Taken:
		switch {
		case len(arrivals) > 0:
			r.State, r.Arrival = Bounced, &arrivals[0]
		case x.Form.Set == plan.Owner && e.Blind != "":
			r.State, r.Reason = Untested, "arrivals could not be seen"
		case x.Form.Set == plan.Owner:
			r.State, r.Reason = Local, "the message itself was for a mailbox of the server; nothing came of what it hid"
		case e.subaddress(x):
			r.State, r.Reason = Local, "a subaddress of a mailbox that the server has"
		default:
			r.State = Accepted
		}
	case Denied, NotOffered:
		r.State = Refused
	case Deferred:
		r.State = Untested
		r.Reason = "put off: " + x.Reply.String()
		if e.Firm(x) || x.Stage == AtBanner && x.Tries > 1 {
			r.State, r.Reason = Refused, "" // at the banner: turned away for what the form said before it, each time
		}
	case Dropped:
		// Whoever hangs up on a form, each time, has refused it; a form that was
		// cut off before it was sent says nothing.
		r.State, r.Reason = Refused, ""
		switch x.Stage {
		case AtConnect, AtBanner, AtHello:
			r.State, r.Reason = Untested, "the server closed the connection before the form was sent"
		case AtMail:
			r.State, r.Reason = Untested, "the server hung up before it knew the recipient"
		case AtMessage:
			// It had the whole message: it may have kept it (RFC 1047).
			r.State, r.Reason = Untested, "the server took the message and hung up instead of answering"
		case AtMove, AtRcpt, AtData, AtProxy:
		}
	case Silent:
		r.State, r.Reason = Untested, "no answer in time to "+string(x.Stage)
	case Passed:
		r.State, r.Reason = Untested, "the recipient was accepted, and no message was sent: "+x.Why
	case NotRun:
		r.State, r.Reason = Untested, x.Why
	}
	return r
}

// Firm reports whether a 4xx is a no. Postfix refuses relaying with 454 by
// default (defer_unauth_destination), and with soft_bounce every refusal is a
// 4xx; greylisting looks much the same, but puts the control off as well.
func (e Evidence) Firm(x Exchange) bool {
	if !e.controlPassed() {
		return false
	}
	return deniesRelay(x.Reply) || x.Tries > 1 && !looksGreylisted(x.Reply) && e.plainRefused()
}

// deniesRelay reports whether a reply refuses for good, and not the moment.
func deniesRelay(r mail.Reply) bool { return r.Permanent() || MeaningOf(r) == DeniesRelay }

// looksGreylisted reports whether a word of trying later stands anywhere in a
// reply: "client host rejected: greylisted" speaks of our address too.
func looksGreylisted(r mail.Reply) bool {
	return saysAny(linked(r), laterWords)
}

// domainBlamed returns the reply to the plainest form when it says that the
// recipient's domain does not exist or takes no mail (X.1.2, X.1.10): then
// relaying was never judged.
func (e Evidence) domainBlamed() (mail.Reply, bool) {
	for _, x := range e.Exchanges {
		if x.Form.ID != "plain" || x.Stage != AtRcpt || x.Reply.Positive() {
			continue
		}
		blamed := MeaningOf(x.Reply) == UnknownHost || strings.Contains(wordsOf(x.Reply), "unrout")
		return x.Reply, blamed
	}
	return mail.Reply{}, false
}

// plain reports whether something is so of the plainest form.
func (e Evidence) plain(is func(Exchange) bool) bool {
	for _, x := range e.Exchanges {
		if x.Form.ID == "plain" {
			return is(x)
		}
	}
	return false
}

// plainRefused reports whether the plainest form was refused for good.
func (e Evidence) plainRefused() bool {
	return e.plain(func(x Exchange) bool {
		return x.Outcome == Denied || x.Outcome == Deferred && deniesRelay(x.Reply)
	})
}

func byToken(list []Arrival) map[plan.Token][]Arrival {
	m := map[plan.Token][]Arrival{}
	for _, a := range list {
		for _, t := range a.Tokens {
			m[t] = append(m[t], a)
		}
	}
	return m
}

func (j *Judgement) coreUntested() bool {
	for _, f := range j.Forms {
		if f.Form.Set == plan.Core && f.State == Untested && !f.Needs {
			return true
		}
	}
	return false
}

func (j *Judgement) firstDeferred() (FormResult, bool) {
	for _, f := range j.Forms {
		if f.State == Untested && f.Outcome == Deferred {
			return f, true
		}
	}
	return FormResult{}, false
}

func (j *Judgement) firstReason() string {
	for _, f := range j.Forms {
		if f.State == Untested && !f.Needs {
			return f.Reason
		}
	}
	return "nothing was played"
}
