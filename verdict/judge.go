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
	arrivals := byToken(e.Arrivals)
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
		if id := back[recipientShape(f)]; f.State == Accepted && id != "" {
			j.Forms[i].State = Bounced
			j.Forms[i].Reason = "the same recipient came back in form " + id
		}
	}
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
			j.Why = fmt.Sprintf("the port is forwarded to %s, which takes every stranger for its customer %s", proof.EgressName, j.Addr.Addr())
			if proof.Sure == Guess {
				j.Why = "it seems that " + j.Why
			}
		}
		return
	}
	if n := j.Count(Accepted); n > 0 {
		j.Verdict = Accepts
		j.Why, j.Do = j.accepts(n)
		return
	}
	if why, do := j.doubt(); why != "" {
		j.Verdict, j.Why, j.Do = Inconclusive, why, do
		return
	}
	j.Verdict = Closed
	j.Why = j.closed()
}

func (j *Judgement) accepts(n int) (why, do string) {
	why = fmt.Sprintf("took %d of %d forms", n, len(j.Forms)-j.notApplicable())
	if j.Blind != "" {
		return why + "; arrivals could not be seen: " + j.Blind,
			"give the check a collector, so that what it took can prove where it goes: --collector DOMAIN"
	}
	why += fmt.Sprintf(", nothing arrived in %s", j.Waited.Round(time.Second))
	if j.CatchAll {
		return why + "; it takes mail for unknown recipients too, so a catch-all explains this",
			"refuse unknown recipients, then check again"
	}
	return why + "; a catch-all or a trap does the same",
		"look at the server's queue and log for the token, or wait longer: --wait"
}

// doubt returns why nothing can be concluded from refusals, or "".
func (j *Judgement) doubt() (why, do string) {
	control := j.asked(KnownRecipient)
	_, deferred := j.firstDeferred()
	switch {
	case j.Session.Banner.Code != 220 && !j.Session.Banner.IsZero():
		return "refuses us before the first command: " + j.Session.Banner.String(),
			"test from another address, or take this one off the server's block list"
	case len(j.Exchanges) == 0:
		return "no form could be played", "see the transcript, or try again later"
	case j.controlPassed(), j.demandsLogin():
	case control.Reply.IsZero():
		return "the control recipient was never answered, so a refusal may mean only us", "try again later, or name a mailbox of the server: --recipient ADDRESS"
	case control.Reply.Transient():
		return "greylisted: the control recipient was put off too (" + control.Reply.String() + ")",
			"wait longer, the check comes again by itself: --wait 30m"
	case control.Reply.Code == 530:
		return "demands TLS first (" + control.Reply.String() + "), and TLS could not be made", "see the transcript of the form starttls"
	case control.AtMail:
		return "refuses our sender address, so the recipients were never judged (" + control.Reply.String() + ")",
			"give the sender's domain an MX that the server can resolve (--zone), or another sender: --from ADDRESS"
	default:
		return "refused the control recipient " + control.Recipient + " too (" + control.Reply.String() + "), so it may be only us that it refuses",
			"name a mailbox or a domain that the server serves: --recipient ADDRESS, --domain NAME"
	}
	if deferred {
		x, _ := j.firstDeferred()
		return fmt.Sprintf("put off (%s) without a final answer", x.Reply), "wait longer, the check comes again by itself: --wait 30m"
	}
	if r, ok := j.domainBlamed(); ok {
		return "the recipient's domain was refused, not relaying (" + r.String() + ")",
			"give the check a domain that the server can resolve: --collector DOMAIN, --zone NAME"
	}
	if j.Tested < enough || j.coreUntested() {
		return "too much of the battery could not be played: " + j.firstReason(), "try again later; the server may limit how often one address connects"
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

// deniesRelay reports whether a reply refuses relaying for good: a 454, which
// is no code of greylisting, or one whose words say so.
func deniesRelay(r mail.Reply) bool {
	text := strings.ToLower(r.Text())
	return r.Permanent() || r.Code == 454 || strings.Contains(text, "relay access denied") || strings.Contains(text, "relaying denied")
}

func looksGreylisted(r mail.Reply) bool {
	text := strings.ToLower(r.Text())
	for _, word := range []string{"grey", "gray", "try again", "retry", "come back", "later", "too many", "rate"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// domainBlamed returns the reply to the plainest form when it says that the
// recipient's domain does not exist or takes no mail (X.1.2, X.1.10): then
// relaying was never judged.
func (e Evidence) domainBlamed() (mail.Reply, bool) {
	for _, x := range e.Exchanges {
		if x.Form.ID != "plain" || x.Stage != AtRcpt || x.Reply.Positive() {
			continue
		}
		text := strings.ToLower(x.Reply.Text())
		code := x.Reply.Enhanced
		blamed := code.Subject == 1 && (code.Detail == 2 || code.Detail == 10) && !strings.Contains(text, "relay")
		for _, words := range []string{"unrouteable", "unroutable", "domain not found", "host not found", "unknown domain", "no such domain", "host unknown"} {
			blamed = blamed || strings.Contains(text, words)
		}
		return x.Reply, blamed
	}
	return mail.Reply{}, false
}

// plainRefused reports whether the plainest form was refused for good.
func (e Evidence) plainRefused() bool {
	for _, x := range e.Exchanges {
		if x.Form.ID == "plain" {
			return x.Outcome == Denied || x.Outcome == Deferred && deniesRelay(x.Reply)
		}
	}
	return false
}

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
// its merits: it took it, or it knows the domain and lacks the mailbox
// (X.1.1, RFC 3463 section 3.2), which no block of our address would say.
func (e Evidence) controlPassed() bool {
	for _, a := range e.Asked {
		if a.Control != KnownRecipient || a.AtMail {
			continue
		}
		if a.Reply.Positive() || a.Reply.Permanent() && a.Reply.Enhanced.Subject == 1 && a.Reply.Enhanced.Detail == 1 {
			return true
		}
	}
	return false
}

// demandsLogin reports whether the port is one where nobody gets in without a
// login: 530 (RFC 4954 section 6), or a submission port (RFC 6409, RFC 8314)
// that offers AUTH and refuses its own recipients as firmly as strangers'.
func (e Evidence) demandsLogin() bool {
	control := e.asked(KnownRecipient).Reply
	_, tls := e.Session.Extensions["STARTTLS"]
	if control.Code == 530 && (e.Session.TLS != "" || !tls) {
		return true // else it may be TLS that is demanded (RFC 3207 section 4)
	}
	_, offers := e.Session.Extensions["AUTH"]
	submission := e.Addr.Port() == 465 || e.Addr.Port() == 587
	return offers && submission && control.Permanent()
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

func byToken(list []Arrival) map[plan.Token][]Arrival {
	m := map[plan.Token][]Arrival{}
	for _, a := range list {
		for _, t := range a.Tokens {
			m[t] = append(m[t], a)
		}
	}
	return m
}

// measure computes the share of the battery that was decided. A form that
// lacks a fact or a permission does not apply; it is named in Needs.
func (j *Judgement) measure() {
	applies, decided := 0, 0
	for _, f := range j.Forms {
		if f.Form.Set == plan.Info {
			continue // decides nothing
		}
		if f.Outcome == NotRun && f.Needs {
			if !slices.Contains(j.Needs, f.Why) {
				j.Needs = append(j.Needs, f.Why)
			}
			continue
		}
		applies++
		if f.State != Untested {
			decided++
		}
	}
	if applies > 0 {
		j.Tested = float64(decided) / float64(applies)
	}
}

func (j *Judgement) notApplicable() int {
	n := 0
	for _, f := range j.Forms {
		if f.Outcome == NotRun && f.Needs {
			n++
		}
	}
	return n
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
