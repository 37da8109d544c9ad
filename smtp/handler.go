package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"time"

	"postern/mail"
	"postern/transcript"
)

// A Handler is asked when a client connects. The zero reply is the default
// banner, a reply of code 220 is sent as the banner. Any other reply refuses
// the client: after 554 the engine waits for QUIT as RFC 5321 section 3.1
// wants, after any other the connection is closed.
type Handler interface {
	Connect(ctx context.Context, p *Peer) (Session, mail.Reply)
}

// HandlerFunc is a Handler made of a function.
type HandlerFunc func(ctx context.Context, p *Peer) (Session, mail.Reply)

// Connect calls f.
func (f HandlerFunc) Connect(ctx context.Context, p *Peer) (Session, mail.Reply) { return f(ctx, p) }

// A Peer is what is known of the client so far. The engine writes it between
// hooks only, so hooks read it freely; goroutines that outlive a hook do not.
type Peer struct {
	Remote, Local netip.AddrPort       // zero when the connection has no such addresses
	Helo          string               // as given in EHLO or HELO; "" before and after STARTTLS
	ESMTP         bool                 // greeted with EHLO
	TLS           *tls.ConnectionState // nil without TLS
	Identity      string               // what Auth returned with its 235; "" for none
	Banner        time.Time            // when the banner was sent; zero before
	Early         bool                 // spoke before the banner, within the pause of a Greeter

	// Transcript records the session if Connect sets it; it is nil by default,
	// because it would hold the head of each message too.
	Transcript *transcript.Transcript
}

// A Session is one client's conversation. Its methods are called one at a
// time, in the order of the commands. A zero reply means the default; a reply
// of code 421 closes the connection after it, Hangup closes it without one.
type Session interface {
	// Hello is asked at EHLO and HELO. The lines of a positive reply stand
	// before the extensions. Zero greets.
	Hello(ctx context.Context, name string, esmtp bool) mail.Reply
	// Mail opens a transaction if its reply is positive or zero.
	Mail(ctx context.Context, from mail.ReversePath, p mail.SenderParams) mail.Reply
	// Rcpt accepts one recipient if its reply is positive. Zero refuses: yes
	// must be said.
	Rcpt(ctx context.Context, to mail.ForwardPath, p mail.RecipientParams) mail.Reply
	// Data takes the message, line ends CRLF, without dot-stuffing. Read
	// returns io.EOF only when the client has sent the whole message; after
	// any other error the reply does not count. What is not read is drained.
	// The reply answers the end of the message. Zero refuses.
	Data(ctx context.Context, body io.Reader) mail.Reply
	// Reset ends a transaction: after Data, RSET, EHLO, STARTTLS and failures.
	// It is called only for a transaction that Mail has seen.
	Reset()
	// Close ends the session; err is nil after QUIT.
	Close(err error)
}

// Hangup closes the connection without a word.
var Hangup = mail.Reply{Code: -1}

// An Authenticator is a Session that offers AUTH (RFC 4954). An empty list of
// mechanisms means that this client is not offered any; without TLS the engine
// offers none, see Server.PlainAuth. challenge sends a 334 and returns the
// client's response; when it fails, Auth returns and its reply does not count.
// Only a reply of code 235 sets the identity.
type Authenticator interface {
	Mechanisms() []string
	Auth(ctx context.Context, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) (identity string, r mail.Reply)
}

// An XClienter is a Session that takes XCLIENT; EHLO offers it. Names are in
// upper case, values decoded. A reply of code 220 starts the session anew with
// that reply as its banner.
type XClienter interface {
	XClient(ctx context.Context, attributes map[string]string) mail.Reply
}

// A Verifier is a Session that answers VRFY; without one it is 252 (RFC 5321
// section 3.5.3).
type Verifier interface {
	Verify(ctx context.Context, arg string) mail.Reply
}

// A DataStarter is a Session that may refuse at DATA or the first BDAT, before
// any of the message is sent. Zero goes on.
type DataStarter interface {
	StartData(ctx context.Context) mail.Reply
}

// A Greeter is a Session that lets the client wait for the banner. When the
// client speaks within the pause, Peer.Early is set and Early is asked at
// once: zero goes on with the banner.
type Greeter interface {
	Pause() time.Duration
	Early(ctx context.Context) mail.Reply
}

// RawPaths is a Session that sees what the strict parser refuses: raw is all
// that stands after "MAIL FROM:" or "RCPT TO:", a source route among it. It is
// for servers that are careless on purpose. Zero keeps the engine's refusal.
type RawPaths interface {
	MailRaw(ctx context.Context, raw string) mail.Reply
	RcptRaw(ctx context.Context, raw string) mail.Reply
}

// A Commander is a Session that sees the commands that the engine does not
// know, or that the server does not offer. Zero keeps the engine's refusal;
// that of an HTTP verb closes the connection.
type Commander interface {
	Command(ctx context.Context, verb, arg string) mail.Reply
}
