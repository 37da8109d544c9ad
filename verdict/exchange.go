package verdict

import (
	"net/netip"
	"strings"
	"time"

	"postern/door"
	"postern/mail"
	"postern/plan"
	"postern/transcript"
)

// A Stage is how far a form came before it was decided.
type Stage string

// The stages, in the order of a session.
const (
	AtConnect Stage = "connect"
	AtProxy   Stage = "proxy" // the answer of a proxy
	AtBanner  Stage = "banner"
	AtHello   Stage = "hello"
	AtMove    Stage = "move" // XCLIENT, STARTTLS, AUTH or another move of the form
	AtMail    Stage = "mail"
	AtRcpt    Stage = "rcpt"
	AtData    Stage = "data"    // the answer to DATA
	AtMessage Stage = "message" // the answer to the end of the message
)

// An Outcome is what the server said to a form.
type Outcome string

// The outcomes. NotOffered is a refusal of its own kind: the form needs
// something that the server does not have, such as XCLIENT, so the hole that
// it looks for cannot be there. Passed is no acceptance: whoever takes a
// recipient may still refuse DATA, or the message (RFC 5321 section 4.1.1.4).
const (
	Taken      Outcome = "taken"       // 2xx to the end of the message
	Passed     Outcome = "passed"      // 2xx to RCPT, and no message was sent: Exchange.Why says why
	Denied     Outcome = "denied"      // 5xx
	Deferred   Outcome = "deferred"    // 4xx
	Dropped    Outcome = "dropped"     // closed the connection instead of an answer
	Silent     Outcome = "silent"      // no answer in time
	NotOffered Outcome = "not offered" // the move does not exist on this server
	NotRun     Outcome = "not run"     // see Exchange.Why
)

// An Exchange is one form played against one port of one address.
type Exchange struct {
	Form       plan.Form
	Envelope   plan.Envelope
	Token      plan.Token
	Stage      Stage
	Outcome    Outcome
	Reply      mail.Reply // the reply that decided, zero when there was none
	Why        string     // of NotRun: what was missing or what stopped us; of Passed: why nothing was sent
	Needs      bool       // of NotRun: a fact or a permission is missing, nothing stopped us
	Tries      int        // how often the form was played
	At         time.Time  // of the deciding reply
	Transcript *transcript.Transcript

	Login string // that was taken, in words that may be shown
	Tried string // of a form that guesses logins: which, and how

	Answer Answer     // of a proxy, in our words
	Said   string     // what the proxy said, or what stood where a banner should be
	Shown  string     // what the proxy shows of itself: fields of its answer, a line each
	Banner string     // of the mail server that greeted through the proxy, "" when none did
	Nonce  string     // in the collector's banner that came through the proxy
	Exit   netip.Addr // our address in that banner
	Ours   bool       // the collector knows that banner
}

// Words returns what decided, as it was said: the reply of a mail server, or
// the answer of a proxy; "" when nothing was.
func (x Exchange) Words() string {
	if !x.Reply.IsZero() && x.Stage != AtProxy {
		return x.Reply.String()
	}
	return x.Said
}

// An Answer is what a proxy said to a stranger who asked for a place.
type Answer string

// The answers. What a proxy cannot reach it would have reached for us, so it
// is no refusal.
const (
	Granted     Answer = "granted"
	WantsLogin  Answer = "login"
	Forbidden   Answer = "forbidden"   // a rule of the proxy's
	Unreachable Answer = "unreachable" // it tried
	Rejected    Answer = "rejected"    // a no that does not say why
	Unsupported Answer = "unsupported" // no such command or kind of address
	NoProxy     Answer = "no proxy"    // it speaks HTTP and does not lead anywhere
)

// NoDSN is why a message is held back whose sender is somebody else's address:
// NOTIFY=NEVER (RFC 3461 section 4.1) cannot be asked for.
const NoDSN = "without DSN a notice would go to whoever has the sender's address"

// A Control is a recipient that tells what the server does with its own mail;
// it is asked with RCPT and never gets a message.
type Control string

// The controls.
const (
	KnownRecipient   Control = "local-control" // must be accepted, or all refusals may mean only us
	UnknownRecipient Control = "local-unknown" // tells a catch-all and a server that bounces later
)

// An Asked is the answer to one control.
type Asked struct {
	Control   Control
	Recipient string
	Reply     mail.Reply // of RCPT, or of MAIL when that was refused
	AtMail    bool       // the sender was refused before the recipient was named
}

// A Session is what a server says of itself before the first envelope.
type Session struct {
	Banner     mail.Reply
	Hello      mail.Reply
	Extensions map[string]string // EHLO keywords in upper case and their parameters
	TLS        string            // version and cipher suite, "" of plain text

	Certificate []string // the names in its certificate, where one was seen
}

// Name returns the name with which the server greets, "" when it is none.
func (s Session) Name() string {
	word, _, _ := strings.Cut(s.Banner.Text(), " ")
	if d, err := mail.ParseDomain(word); err == nil && !d.IsLiteral() && strings.Contains(d.String(), ".") {
		return d.ASCII()
	}
	return ""
}

// Greeter returns the first word of the greeting where that is a host's name:
// one with a domain, or one before the word SMTP (RFC 5321 section 4.2).
func (s Session) Greeter() string {
	if name := s.Name(); name != "" {
		return name
	}
	word, rest, _ := strings.Cut(s.Banner.Text(), " ")
	d, err := mail.ParseDomain(word)
	next, _, _ := strings.Cut(strings.ToUpper(rest), " ")
	if err != nil || d.IsLiteral() || next != "ESMTP" && next != "SMTP" {
		return ""
	}
	return d.ASCII()
}

// Echo returns our own address as the answer to EHLO shows it, as in
// "mx.example Hello tester [192.0.2.1]"; invalid when it shows none.
func (s Session) Echo() netip.Addr {
	if !s.Hello.Positive() || len(s.Hello.Lines) == 0 {
		return netip.Addr{}
	}
	text := s.Hello.Lines[0]
	for i := strings.LastIndexByte(text, '['); i >= 0; i = strings.LastIndexByte(text[:i], '[') {
		literal, _, _ := strings.Cut(text[i+1:], "]")
		if a, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimPrefix(literal, "IPv6:"), "ipv6:")); err == nil {
			return a.Unmap().WithZone("")
		}
	}
	return netip.Addr{}
}

// Evidence is all that one port of one address gave.
type Evidence struct {
	Door      door.Door      // at which we knocked; none: the smtp door
	Addr      netip.AddrPort // X, the tested address
	From      netip.Addr     // T, our own address as the socket has it
	Names     []string       // of X: as the target was given, and in the DNS
	BannerAt  []netip.Addr   // where the name in its banner leads in the DNS
	Session   Session
	NotTested string // why there is no evidence: refused, no SMTP; "" otherwise
	Do        string // of NotTested: what helps
	Named     bool   // of NotTested: who asked for the test says that there is a door of this kind
	Asked     []Asked
	Exchanges []Exchange
	Arrivals  []Arrival     // those that hold a token of the exchanges
	Waiting   bool          // arrivals are still waited for
	Blind     string        // why arrivals could not be seen, "" when they could
	Waited    time.Duration // how long arrivals were waited for after the last acceptance
	Cut       bool          // that wait was cut short by the caller
	Until     time.Time     // until when late arrivals are recognised
}
