package policy

import (
	"fmt"
	"strconv"
	"strings"

	"postern/internal/problem"
	"postern/mail"
)

// A Cause names a refusal for metrics and tests.
type Cause string

// The causes. Each has its text in the catalogue below.
const (
	NoSuchListener Cause = "no_listener"
	Form           Cause = "address_form"
	NeedTLS        Cause = "tls_needed"
	NeedLogin      Cause = "login_needed"
	NoIdentity     Cause = "identity_gone"
	NotYours       Cause = "sender_not_yours"
	NotTrusted     Cause = "client_not_trusted"
	TrustWithdrawn Cause = "trust_withdrawn"
	NotTheClients  Cause = "sender_not_the_clients"
	Relaying       Cause = "relaying"
	UnknownMailbox Cause = "mailbox_unknown"
	Unreachable    Cause = "domain_unreachable"
	AuthorNotYours Cause = "author_not_yours"
)

// Causes returns all causes.
func Causes() []Cause {
	return []Cause{
		NoSuchListener, Form, NeedTLS, NeedLogin, NoIdentity, NotYours, NotTrusted, TrustWithdrawn,
		NotTheClients, Relaying, UnknownMailbox, Unreachable, AuthorNotYours,
		NoPlace, InsideUs, MailOnly,
	}
}

// A Refusal is a no, and what the person at the other end can do about it.
type Refusal struct {
	Cause Cause
	Rule  string      // the name of the rule
	At    problem.Pos // the line that decided; zero where none did
	args  []any       // what the text names
}

// Reply returns what the client is told: one line, without an id.
func (r *Refusal) Reply() mail.Reply {
	text := catalogue[r.Cause]
	return mail.NewReply(text.code, text.enhanced, fmt.Sprintf(text.format, r.args...))
}

func (r *Refusal) Error() string { return r.Reply().String() }

// refuse makes a refusal of the catalogue. Where waiting does not help the
// code is of class 5: a 4xx would make honest senders try for days.
func refuse(cause Cause, at problem.Pos, args ...any) *Refusal {
	return &Refusal{Cause: cause, At: at, args: args}
}

// portOf returns the port at which clients reach a listener of the role, or 0.
func (p *Policy) portOf(role Role) uint16 {
	for i := range p.source.Listeners {
		if l := &p.source.Listeners[i]; l.Role == role && l.Port != 0 {
			return l.Port
		}
	}
	return 0
}

// LoginPort says where somebody who has an account logs in, as "port 465 (TLS)"
// or "port 587 (STARTTLS)", or "" where it is not known: a refusal names no port
// at which nothing listens.
func (p *Policy) LoginPort() string {
	if n := p.portOf(Submissions); n != 0 {
		return fmt.Sprintf("port %d (TLS)", n)
	}
	if n := p.portOf(Submission); n != 0 {
		return fmt.Sprintf("port %d (STARTTLS)", n)
	}
	return ""
}

// hint is what a text ends with when there is such a port.
func hint(format, port string) string {
	if port == "" {
		return ""
	}
	return fmt.Sprintf(format, port)
}

// mxHint says where mail for our domains goes.
func (p *Policy) mxHint() string {
	if n := p.portOf(MX); n != 0 {
		return fmt.Sprintf(". Mail for our domains goes to port %d", n)
	}
	return ""
}

// tlsHint names the port that has TLS from the first octet.
func (p *Policy) tlsHint() string {
	if n := p.portOf(Submissions); n != 0 {
		return fmt.Sprintf(", or port %d", n)
	}
	return ""
}

type text struct {
	code     int
	enhanced string
	format   string
}

// catalogue holds the text of each cause: what happened, and what to do.
var catalogue = map[Cause]text{
	NoSuchListener: {451, "4.3.0", "This way in was just closed; connect again"},
	Form:           {501, "5.1.3", "Address form not accepted; use name@domain only"},
	NeedTLS:        {530, "5.7.0", "Turn on TLS (STARTTLS%s) and try again"},
	NeedLogin:      {530, "5.7.0", "Log in first: this port is for our users%s"},
	NoIdentity:     {550, "5.7.1", "User %s may no longer send here; ask your administrator"},
	NotYours:       {553, "5.7.1", "%s may not send as %s; ask your administrator to add it"},
	NotTrusted:     {550, "5.7.1", "%s is not known here%s. Ask the administrator to name this address"},
	TrustWithdrawn: {451, "4.7.1", "This server cannot see your real address; its operator was told. Try later"},
	NotTheClients:  {553, "5.7.1", "%s may not send as %s; ask your administrator to add it"},
	Relaying:       {550, "5.7.1", "We do not relay for %s. Send through your own provider%s"},
	UnknownMailbox: {550, "5.1.1", "No such mailbox here; check the spelling of %s"},
	Unreachable:    {550, "5.1.2", "%s is no domain that mail can be sent to; check the address"},
	NoPlace:        {550, "5.7.1", "%s is not a place that this gateway leads to; ask your administrator to name it"},
	MailOnly:       {550, "5.7.1", "%s is a token for mail; ask your administrator for one that is made with --gateway"},
	InsideUs:       {550, "5.7.1", "%s is inside this network; ask your administrator to name its address"},
	AuthorNotYours: {550, "5.7.1", "The From line %s does not belong to %s; use an address of your own"},
}

// shown is what a stranger wrote, quoted when it is printed and cut to what a
// reply has room for: two of them and any text of the catalogue stay below 200
// octets, and each octet may take four to print.
type shown string

func (s shown) String() string {
	const most = 48
	text := strconv.QuoteToASCII(string(s))
	if len(text) <= most {
		return text
	}
	cut := []rune(string(s))
	for len(text) > most-len("...") {
		cut = cut[:len(cut)-1]
		text = strconv.QuoteToASCII(string(cut))
	}
	return text + "..."
}

// named is a name that we gave ourselves: it stands as it is where it is
// short and plain, else like what a stranger wrote.
type named string

func (n named) String() string {
	const most = 40
	odd := strings.ContainsFunc(string(n), func(r rune) bool { return r <= ' ' || r > '~' })
	if odd || len(n) > most {
		return shown(n).String()
	}
	return string(n)
}
