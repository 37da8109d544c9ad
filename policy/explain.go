package policy

import (
	"fmt"

	"postern/internal/problem"
	"postern/mail"
)

// A Step is one thing that was looked at on the way to a decision.
type Step struct {
	Command string      // CONNECT, MAIL or RCPT
	Rule    string      // the name of the rule; "" for what only sets the scene
	Asks    string      // what was asked
	Found   string      // what was found
	Source  string      // where the rule is described
	At      problem.Pos // the line of the configuration that it rests on
	Refused bool
}

// An Explanation is a decision with all that led to it.
type Explanation struct {
	Client  Client
	Class   Class
	Role    Role
	Steps   []Step
	Grant   Grant    // zero when refused
	Refusal *Refusal // nil when granted
}

// Explain takes the same way as Decide, through the same rules, and writes
// down what each of them found.
func (p *Policy) Explain(c Client, from mail.ReversePath, to mail.ForwardPath) Explanation {
	q := p.query(c, p.listeners[c.Listener], from)
	q.recipient(to)
	e := Explanation{Client: q.client, Class: p.ClassOf(q.client.Addr), Role: q.role()}
	for i := range rules {
		r := &rules[i]
		step := Step{Command: commandOf(r.stage), Rule: r.name, Asks: r.asks, Source: r.source}
		if refusal := r.refuses(q); refusal != nil {
			refusal.Rule = r.name
			step.Found, step.At, step.Refused = "no", refusal.At, true
			e.Steps = append(e.Steps, step)
			e.Refusal = refusal
			return e
		}
		var matters bool
		if step.Found, step.At, matters = q.found(r.name); matters {
			e.Steps = append(e.Steps, step)
		}
	}
	e.Grant = q.grant()
	return e
}

func commandOf(s stage) string {
	return map[stage]string{atConnect: "CONNECT", atMail: "MAIL", atRcpt: "RCPT"}[s]
}

// found says what a silent rule saw; false when it does not concern this
// listener at all.
func (q *query) found(rule string) (string, problem.Pos, bool) {
	switch rule {
	case "listener":
		return fmt.Sprintf("yes: %q, role %s", q.listener.name, q.role()), q.listener.at, true
	case "tls", "login":
		return "yes", q.listener.at, q.login()
	case "identity":
		if q.identity == nil {
			return "", problem.Pos{}, false
		}
		return fmt.Sprintf("yes: %s", q.identity.name), q.identity.at, true
	case "user-sender", "client-sender":
		list, who, at := q.owned()
		s, ok := permitted(list, q.from)
		mine := rule == "user-sender" && q.login() || rule == "client-sender" && q.role() == Trusted
		return fmt.Sprintf("yes: %s may send as %s", who, s), place(s.At, at), ok && mine
	case "trusted-client", "true-address":
		if q.trusted == nil {
			return "", problem.Pos{}, false
		}
		return fmt.Sprintf("yes: %s is trusted client %q", q.client.Addr, q.trusted.name), q.network.At, true
	case "form":
		return "yes", problem.Pos{}, true
	case "ours":
		if q.target.foreign {
			return "no; on this listener it need not be", q.listener.at, true
		}
		return fmt.Sprintf("yes: %s", q.target.domain), q.target.at, true
	case "mailbox":
		if q.target.ask {
			return "the next hop is asked", q.target.at, true
		}
		return "yes", q.target.at, !q.target.foreign
	case "reachable":
		return "yes", problem.Pos{}, q.target.foreign
	}
	return "yes", problem.Pos{}, true
}
