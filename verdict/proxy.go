package verdict

import (
	"fmt"
	"time"

	"postern/door"
	"postern/plan"
)

// proxied reports whether the door is one at which a proxy stands.
func (e Evidence) proxied() bool { return e.Door == door.SOCKS || e.Door == door.Connect }

// proxyState decides one form that was played through a proxy, of which
// nothing has arrived as a message.
func (e Evidence) proxyState(r FormResult, arrivals []Arrival) FormResult {
	r.State = Refused
	switch r.Outcome {
	case NotRun:
		r.State, r.Reason = Untested, r.Why
	case Passed:
		r.State, r.Reason = Untested, "the recipient was accepted, and no message was sent: "+r.Why
	case Taken:
		switch {
		case r.Form.Set == plan.Info:
			r.State, r.Reason = Noted, r.Said
		case len(arrivals) > 0:
			r.State, r.Arrival = Bounced, &arrivals[0]
		default:
			r.State = Accepted
		}
	case Denied, NotOffered:
		r.Reason = r.Said
		switch {
		case r.Form.Hole == "request-body" && e.Blind == "":
			// Whatever the proxy made of the far server's words: the message did not arrive.
		case r.Answer == Unreachable:
			r = e.unreached(r, "the proxy would have led us there, and could not: "+r.Said)
		case r.Answer == Rejected && !e.firm():
			r = e.unreached(r, "the proxy said no, and not why: "+r.Said)
		}
	case Deferred:
		r.State, r.Reason = Untested, "put off: "+r.Reply.String()
	case Dropped:
		switch {
		case r.Stage == AtMessage:
			r.State, r.Reason = Untested, "it took the message and hung up instead of answering"
		case r.Answer == Granted && r.Stage == AtBanner:
			// Many say yes before they have connected, and this is how they say that they could not.
			return e.unreached(r, "the proxy said yes and hung up")
		case r.Answer == Granted:
			r.Reason = "the proxy said yes and hung up"
		case r.Stage == AtConnect:
			r.State, r.Reason = Untested, "the proxy closed the connection before it was asked"
		case !e.answered():
			// Small proxies hang up when they could not connect, as others do on strangers.
			return e.unreached(r, "the proxy hung up instead of an answer")
		default:
			r.Reason = "the proxy hung up instead of an answer"
		}
	case Silent:
		if r.Answer == Granted {
			return e.unreached(r, "the proxy said yes, and nothing came back in time")
		}
		return e.unreached(r, "the proxy did not answer in time")
	}
	return r
}

// unreached settles a form that led nowhere: when another port of the same
// machine could be reached through the proxy, it is this port that is shut.
func (e Evidence) unreached(r FormResult, why string) FormResult {
	r.State, r.Reason = Untested, why
	if r.Form.Set != plan.Info && e.elsewhere() {
		r.State = Refused
	}
	return r
}

// firm reports whether the proxy has rules against strangers, so that a no
// without a reason is one of them: it gave such a reason to another form, or
// leads us to no other port either.
func (e Evidence) firm() bool {
	for _, x := range e.Exchanges {
		if x.Answer == Forbidden || x.Answer == WantsLogin || x.Answer == Rejected && x.Form.Set == plan.Info && x.Form.Move.Arg.Uses("p443") {
			return true
		}
	}
	return false
}

// answered reports whether the proxy has said to any form what becomes of it.
func (e Evidence) answered() bool {
	for _, x := range e.Exchanges {
		if x.Answer != "" && x.Answer != Unsupported {
			return true
		}
	}
	return false
}

// elsewhere reports whether the collector was reached through the proxy at a
// port that is not for mail.
func (e Evidence) elsewhere() bool {
	for _, x := range e.Exchanges {
		if x.Form.Set == plan.Info && x.Ours {
			return true
		}
	}
	return false
}

// elsewhereGreets says of a proxy whose mail server is not the collector, to
// which it was asked to lead, what that may mean; "" of others.
func (e Evidence) elsewhereGreets() string {
	for _, x := range e.Exchanges {
		if x.Form.Set != plan.Info && x.Banner != "" && !x.Ours {
			return fmt.Sprintf("; what greets behind it (%.60q) is not our collector: it leads elsewhere, or plays a mail server itself", x.Banner)
		}
	}
	return ""
}

// decideProxy judges a proxy. It is open for mail only when a message came
// through; that it serves strangers otherwise is told beside.
func (j *Judgement) decideProxy() {
	port25 := false
	for i, f := range j.Forms {
		switch {
		case f.State == Noted && f.Ours && j.Elsewhere == nil:
			j.Elsewhere = &j.Forms[i]
		case f.Form.Hole == "open-proxy" && (f.State == Arrived || f.State == Accepted):
			port25 = true
		}
	}
	if port25 {
		j.Elsewhere = nil // it leads to port 25 like to any other
	}
	if proof := j.proof(); proof != nil {
		j.Verdict, j.Proof, j.Why = Open, proof, plan.Why(proof.Form.Hole)
		return
	}
	if n := j.Count(Accepted); n > 0 {
		j.Verdict = Accepts
		j.Why = fmt.Sprintf("a mail server behind the proxy took the messages of %d forms, nothing arrived in %s", n, j.Waited.Round(time.Second))
		j.Do = "look at the log of the proxy, and of the mail server to which it leads, for the token"
		if j.Blind != "" {
			j.Why = fmt.Sprintf("a mail server behind the proxy took the messages of %d forms; arrivals could not be seen: %s", n, j.Blind)
			j.Do = "give the check a collector, so that what it took can prove where it goes: --collector DOMAIN"
		}
		j.Why += j.elsewhereGreets()
		return
	}
	if j.Door == door.Connect && j.unasked() {
		// Most of what speaks HTTP is a web server.
		j.Verdict, j.Why, j.Do = NotTested, "it speaks HTTP, and whether it is a proxy could not be seen: the check "+j.Needs[0], needsFront
		return
	}
	if why, do := j.doubtProxy(); why != "" {
		j.Verdict, j.Why, j.Do = Inconclusive, why+j.elsewhereGreets(), do
		return
	}
	j.Verdict, j.Why = Closed, j.closedProxy()+j.elsewhereGreets()
}

// unasked reports whether nothing was asked for want of a collector.
func (j *Judgement) unasked() bool {
	for _, f := range j.Forms {
		if f.Outcome != NotRun || !f.Needs {
			return false
		}
	}
	return len(j.Needs) > 0
}

// needsFront is said where there is no place of ours that a proxy could be led
// to: there is no collector, it cannot be reached, or it is a mailbox, and its
// server is somebody else's.
const needsFront = "give the check a collector that the proxy can be led to, on a machine of yours that it reaches: --collector DOMAIN, or postern collect and --collector-url"

// doubtProxy returns why nothing can be concluded from what did not come
// through, or "".
func (j *Judgement) doubtProxy() (why, do string) {
	played, needs := 0, ""
	for _, f := range j.Forms {
		switch {
		case f.Outcome != NotRun && f.Form.Set != plan.Info:
			played++
		case f.Needs && needs == "":
			needs = f.Why
		}
	}
	switch {
	case j.Cut:
		return j.cutShort()
	case played == 0 && needs != "":
		return "it is a proxy, and nothing could be asked of it: the check " + needs, needsFront
	case played == 0:
		return "no form could be played: " + j.firstReason(), "see the transcript, or try again later"
	case j.Blind != "" && j.led():
		return "arrivals could not be seen: " + j.Blind, needsFront
	case j.Tested < enough || j.coreUntested():
		return j.firstReason(), "see that the proxy's machine reaches the collector, then check again; a port of its own that is not for mail tells the two apart: --collector-ports 443"
	}
	return "", ""
}

// led reports whether the proxy led us somewhere, or tried to: then it matters
// whether the collector is there.
func (j *Judgement) led() bool {
	for _, f := range j.Forms {
		if f.Answer == Granted || f.Answer == Unreachable {
			return true
		}
	}
	return false
}

// closedProxy says why strangers' mail does not leave by this proxy.
func (j *Judgement) closedProxy() string {
	if j.Elsewhere != nil {
		if j.Elsewhere.Form.Hole == "proxy-submission" {
			return "leads strangers to submission ports, though not to port 25: an open proxy, and a way out for mail with a stolen login"
		}
		return "leads strangers to other ports, though not to port 25: an open proxy, but no way out for mail"
	}
	count := make(map[Answer]int)
	for _, f := range j.Forms {
		if f.State == Refused && f.Form.Set != plan.Info {
			count[f.Answer]++
		}
	}
	switch {
	case count[Granted] > 0:
		return "it says yes, and leads to no mail server that takes strangers' mail"
	case count[Forbidden] > 0:
	case count[WantsLogin] > 0:
		return "nobody gets anywhere without a login"
	case count[NoProxy] > 0:
		return "it is a web server and leads nowhere"
	}
	return "every form was refused"
}
