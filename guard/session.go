package guard

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// A session is one client's conversation with the guard.
type session struct {
	server *SMTP
	peer   *smtp.Peer
	id     string
	addr   netip.Addr
	began  time.Time

	message  string // id of the transaction
	used     bool   // the id of the session has named a transaction
	policy   *policy.Policy
	from     mail.ReversePath
	params   mail.SenderParams
	to       []policy.Accepted
	flies    int64  // octets of State.Flight that the message holds
	fliesFor string // the network that holds them; "" for our own people
	hops     Offer  // what the next hops of all of them take
	unknown  int    // mailboxes asked for that do not exist
}

// client says who asks, as the policy wants to know it.
func (v *session) client() policy.Client {
	c := policy.Client{Listener: v.server.Listener, Addr: v.addr, TLS: v.peer.TLS != nil, Identity: v.peer.Identity}
	if v.server.Role == policy.Trusted {
		c.Suspended = v.server.State.Witness.Suspended(v.trusted()) != ""
	}
	return c
}

// trusted returns the name of the trusted client that the address belongs to.
func (v *session) trusted() string { return v.server.Policy().TrustedBy(v.addr) }

// Hello greets, and lets the witness hear the name.
func (v *session) Hello(_ context.Context, name string, _ bool) mail.Reply {
	if v.server.Role == policy.Trusted {
		v.greets(name)
	}
	return mail.Reply{}
}

// Mail opens a transaction under the policy that is in force now; it keeps
// that policy to its end.
func (v *session) Mail(_ context.Context, from mail.ReversePath, p mail.SenderParams) mail.Reply {
	v.begin()
	v.policy, v.from, v.params, v.hops = v.server.Policy(), from, p, anything
	if refusal := v.policy.Sender(v.client(), from); refusal != nil {
		if refusal.Cause == policy.NotTheClients && !from.Null() {
			v.saw(TheirSenders, voiceOf(v.peer.Helo)+" "+from.Address().Domain().ASCII())
		}
		return v.refuse(string(refusal.Cause), refusal.Reply())
	}
	room := v.server.Intake.Room
	if v.stranger() {
		room = v.server.Intake.Spare
	}
	if err := room(p.Size); err != nil {
		return v.refuse(CauseRoom, replyOf(err))
	}
	limits, state := &v.server.Limits, v.server.State
	if r, stop := v.slower(&state.strangeBytes, 0, limits.StrangerBytes); stop {
		return r
	}
	if r, stop := v.slower(&state.strangeMessages, 1, limits.Strangers); stop {
		return r
	}
	v.uncount(&state.strangeMessages, 1) // until it has come, see brought
	return mail.Reply{}
}

// stranger reports that neither a login nor a trusted client speaks.
func (v *session) stranger() bool {
	return v.peer.Identity == "" && (v.server.Role != policy.Trusted || v.trusted() == "")
}

// begin gives the transaction its id: the session's own for the first.
func (v *session) begin() {
	if v.message = v.id; v.used {
		v.message = v.server.NewID()
	}
	v.used = true
}

// Rcpt asks the policy, and where it says so the next hop.
func (v *session) Rcpt(ctx context.Context, to mail.ForwardPath, p mail.RecipientParams) mail.Reply {
	if r, stop := v.slower(&v.server.State.strangeRcpts, 1, v.server.Limits.StrangerRcpts); stop {
		return r
	}
	g, refusal := v.policy.Decide(v.client(), v.from, to)
	if refusal != nil {
		if refusal.Cause == policy.UnknownMailbox {
			return v.unknownMailbox(to, refusal)
		}
		if v.server.Role == policy.Trusted && refusal.Cause == policy.Form {
			v.saw(Routes, voiceOf(v.peer.Helo)+" "+to.String())
		}
		return v.refuseTo(to, string(refusal.Cause), refusal.Reply())
	}
	if g.Ask() {
		known, err := v.exists(ctx, to.Address().ALabels())
		switch {
		case err != nil:
			v.note(Event{Kind: Refused, To: to, Cause: CauseLookup, Err: err})
			return v.signed(mail.NewReply(451, "4.4.3", "Cannot ask whether this mailbox exists; try again later"))
		case !known:
			return v.unknownMailbox(to, v.policy.Unknown(to))
		}
		if r := v.fits(to.Address()); !r.IsZero() {
			return v.refuseTo(to, CauseHop, r)
		}
	}
	if r := v.forwards(g); !r.IsZero() {
		return v.refuseTo(to, CauseBudget, r)
	}
	if !slices.ContainsFunc(v.to, func(a policy.Accepted) bool { return a.Grant.To().String() == to.String() }) {
		v.to = append(v.to, policy.Accepted{Grant: g, Params: p})
	}
	return mail.NewReply(250, "2.1.5", "Recipient OK")
}

func (v *session) exists(ctx context.Context, a mail.Address) (bool, error) {
	if v.server.Mailboxes == nil {
		return false, errors.New("nobody can be asked")
	}
	return v.server.Mailboxes.Exists(ctx, a)
}

// unknownMailbox refuses, and ends the session of who tries name after name.
func (v *session) unknownMailbox(to mail.ForwardPath, refusal *policy.Refusal) mail.Reply {
	if v.unknown++; v.server.Limits.Unknown > 0 && v.unknown > v.server.Limits.Unknown {
		if v.server.Role == policy.Trusted {
			v.saw(Guesses, voiceOf(v.peer.Helo)+" ")
		}
		return v.refuseTo(to, CauseGuesses, mail.NewReply(421, "4.7.0", "Too many mailboxes that do not exist; closing"))
	}
	return v.refuseTo(to, string(refusal.Cause), refusal.Reply())
}

// Data stores the message. What the budget does not cover is stored and held.
func (v *session) Data(ctx context.Context, body io.Reader) mail.Reply {
	began := time.Now()
	defer v.lands()
	if !v.takesOff(flightBase) {
		return v.refuse(CauseMemory, replyShort())
	}
	m, name, r := v.read(body)
	if !r.IsZero() {
		return r
	}
	hold, r := v.budget()
	if !r.IsZero() {
		return r
	}
	l := policy.Letter{ID: v.message, From: v.from, Params: v.params, To: v.to, Origin: v.origin(), Name: name, Bulk: v.bulk()}
	if why := v.withhold(&l); why != "" {
		hold = why
	}
	if lost := v.lost(); lost != "" {
		hold = lost
	}
	l.Hold = hold
	size, err := v.server.Intake.Put(ctx, l, v.fitting(m))
	var u unfit
	if errors.As(err, &u) {
		v.unspend()
		return v.refuse(CauseHop, u.reply)
	}
	if err != nil {
		v.unspend()
		v.note(Event{Kind: NotStored, From: v.from, Err: err, Cause: CauseStore})
		return v.signed(replyOf(err))
	}
	over := v.spendBytes(size)
	v.brought(size)
	v.server.State.friends.met(v.addr, false, time.Now())
	e := Event{Kind: Accepted, From: v.from, Size: size, Took: time.Since(began), Why: hold}
	for _, a := range v.to {
		e.Grants = append(e.Grants, a.Grant)
	}
	v.note(e)
	if hold != "" {
		v.note(Event{Kind: Held, From: v.from, Why: hold})
		if v.server.Role == policy.MX {
			return mail.NewReply(250, "2.0.0", "Stored as "+v.message) // a stranger's administrator has nothing to release
		}
		return mail.NewReply(250, "2.0.0", "Stored as "+v.message+" and held: "+hold+". Your administrator can release it")
	}
	if over != "" {
		v.note(Event{Kind: OverBudget, From: v.from, Why: over})
	}
	return mail.NewReply(250, "2.0.0", "Stored as "+v.message)
}

// lost says which grant the policy that is in force now would no longer give;
// it may have changed while the message was on its way.
func (v *session) lost() string {
	now := v.server.Policy()
	if now == v.policy {
		return ""
	}
	for _, a := range v.to {
		if now.Lost(a.Grant.Record()) != "" {
			return "its grant for " + a.Grant.To().String() + " was withdrawn while it came in"
		}
	}
	return ""
}

func (v *session) origin() policy.Origin {
	o := policy.Origin{
		Session: v.id, Listener: v.server.Listener, Peer: v.addr, Helo: v.peer.Helo, Identity: v.peer.Identity, At: time.Now(),
		TLS: tlsText(v.peer.TLS),
	}
	if v.server.Role == policy.Trusted {
		o.Identity = v.trusted()
	}
	return o
}

// Reset forgets the transaction.
func (v *session) Reset() {
	v.policy, v.from, v.params, v.to, v.hops = nil, mail.ReversePath{}, mail.SenderParams{}, nil, Offer{}
}

// Close ends the session.
func (v *session) Close(err error) {
	v.note(Event{Kind: Closed, Took: time.Since(v.began), Err: err})
}

// Pause lets strangers wait for the banner: programs that send spam often do not.
func (v *session) Pause() time.Duration {
	if v.server.Role != policy.MX {
		return 0
	}
	return v.server.Limits.Pause
}

// Early refuses who could not wait (RFC 5321 section 3.1).
func (v *session) Early(context.Context) mail.Reply {
	return v.refuse(CauseEarly, mail.NewReply(554, "5.5.1", "Talked before our greeting"))
}

// Command answers the commands that this listener does not have.
func (v *session) Command(_ context.Context, verb, arg string) mail.Reply {
	switch {
	case verb != "AUTH":
		return mail.Reply{}
	case v.server.Role == policy.MX:
		text := "No login on this port"
		if port := v.server.Policy().LoginPort(); port != "" {
			text += "; use " + port
		}
		return mail.NewReply(502, "5.5.1", text)
	case v.server.Role == policy.Trusted:
		v.saw(LogsIn, triesUser(arg))
		return mail.NewReply(502, "5.5.1", "No login on this port: its clients are known by their address")
	case v.peer.TLS == nil:
		return mail.NewReply(538, "5.7.11", "This login needs an encrypted connection; set security to TLS")
	}
	return mail.Reply{}
}

func (v *session) refuse(cause string, r mail.Reply) mail.Reply {
	return v.refuseTo(mail.ForwardPath{}, cause, r)
}

// refuseTo notes a refusal and signs it with the id by which the log is found.
func (v *session) refuseTo(to mail.ForwardPath, cause string, r mail.Reply) mail.Reply {
	r = v.signed(r)
	v.note(Event{Kind: Refused, From: v.from, To: to, Cause: cause, Reply: r})
	return r
}

// signed puts the id of the transaction at the end of a reply.
func (v *session) signed(r mail.Reply) mail.Reply {
	if n := len(r.Lines); n > 0 {
		r.Lines = slices.Clone(r.Lines)
		r.Lines[n-1] += " [" + v.message + "]"
	}
	return r
}

// note tells who watches.
func (v *session) note(e Event) {
	if v.server.Watch == nil {
		return
	}
	e.Session, e.Message, e.Listener, e.Role, e.Peer = v.id, v.message, v.server.Listener, v.server.Role, v.addr
	e.Helo, e.TLS = v.peer.Helo, v.peer.TLS != nil
	if e.Identity == "" {
		e.Identity = v.peer.Identity
	}
	v.server.Watch(e)
}

// replyOf returns the words of an error of the intake.
func replyOf(err error) mail.Reply {
	var replied interface{ Reply() mail.Reply }
	if errors.As(err, &replied) {
		return replied.Reply()
	}
	return mail.NewReply(451, "4.3.0", "Could not store your message safely, so we did not accept it")
}
