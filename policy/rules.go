package policy

import "postern/internal/problem"

// A stage is the command at which a rule can be asked first.
type stage uint8

const (
	atConnect stage = iota
	atMail
	atRcpt
)

// A rule is one reason to refuse. A grant is made only when all are silent,
// so each of them is a lock on the door: the tests take every single one
// away, and the proof must fail every time.
type rule struct {
	name    string // one word for one rule, in logs and in explanations
	source  string // where it is described
	asks    string // what it asks, for a person
	stage   stage
	refuses func(q *query) *Refusal
}

// rules are asked in this order. They stand by stage: what can be refused
// early is.
var rules = []rule{
	{"listener", "RFC 6409 3.3", "is this way in still open?", atConnect, func(q *query) *Refusal {
		if q.listener == nil {
			return refuse(NoSuchListener, problem.Pos{})
		}
		return nil
	}},
	{"tls", "RFC 8314 3.3", "is a login protected by TLS?", atMail, func(q *query) *Refusal {
		if q.login() && !q.client.TLS {
			return refuse(NeedTLS, q.listener.at, q.p.tlsHint())
		}
		return nil
	}},
	{"login", "RFC 6409 4.3", "has somebody logged in?", atMail, func(q *query) *Refusal {
		if q.login() && q.client.Identity == "" {
			return refuse(NeedLogin, q.listener.at, q.p.mxHint())
		}
		return nil
	}},
	{"identity", "RFC 4954 4", "does that user still exist?", atMail, func(q *query) *Refusal {
		if q.login() && q.client.Identity != "" && q.identity == nil {
			return refuse(NoIdentity, q.listener.at, shown(q.client.Identity))
		}
		return nil
	}},
	{"user-sender", "RFC 6409 6.1", "may that user use this reverse-path?", atMail, func(q *query) *Refusal {
		if !q.login() || q.identity == nil {
			return nil
		}
		if _, ok := permitted(q.identity.maySendAs, q.from); !ok {
			return refuse(NotYours, q.identity.at, named(q.identity.name), shown(q.from.String()))
		}
		return nil
	}},
	{"trusted-client", "RFC 2505 2.1", "is the client's address named?", atMail, func(q *query) *Refusal {
		if q.role() == Trusted && q.trusted == nil {
			return refuse(NotTrusted, q.listener.at, q.client.Addr, hint(". Log in on %s", q.p.LoginPort()))
		}
		return nil
	}},
	{"true-address", "RFC 2505 2.1", "is the client's address its own?", atMail, func(q *query) *Refusal {
		if q.role() == Trusted && q.client.Suspended {
			return refuse(TrustWithdrawn, q.network.At)
		}
		return nil
	}},
	{"client-sender", "RFC 6409 6.1", "may that client use this reverse-path?", atMail, func(q *query) *Refusal {
		if q.role() != Trusted || q.trusted == nil {
			return nil
		}
		if _, ok := permitted(q.trusted.maySendAs, q.from); !ok {
			return refuse(NotTheClients, q.trusted.at, named(q.trusted.name), shown(q.from.String()))
		}
		return nil
	}},
	{"form", "RFC 1123 5.2.16", "is the recipient a plain address?", atRcpt, func(q *query) *Refusal {
		if q.target.odd {
			return refuse(Form, problem.Pos{})
		}
		return nil
	}},
	{"ours", "RFC 2505 2.1", "is the recipient's domain ours?", atRcpt, func(q *query) *Refusal {
		if q.role() == MX && q.target.foreign {
			return refuse(Relaying, q.listener.at, q.client.Addr, hint(", or log in on %s", q.p.LoginPort()))
		}
		return nil
	}},
	{"mailbox", "RFC 5321 3.3", "does the mailbox exist?", atRcpt, func(q *query) *Refusal {
		if !q.target.foreign && !q.target.known {
			return refuse(UnknownMailbox, q.target.at, shown(q.to.Address().String()))
		}
		return nil
	}},
	{"reachable", "RFC 5321 2.3.5", "can mail be sent to that domain?", atRcpt, func(q *query) *Refusal {
		if q.role() != MX && q.target.foreign && !q.target.routable {
			return refuse(Unreachable, problem.Pos{}, shown(q.to.Address().Domain().String()))
		}
		return nil
	}},
}
