package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/smtp"
	"postern/transcript"
	"postern/verdict"
)

// TLS says how a session is encrypted.
type TLS int

// The ways of TLS.
const (
	Plain    TLS = iota
	StartTLS     // RFC 3207, after the first EHLO
	Implicit     // RFC 8314 section 3, from the first byte
)

// SMTP plays forms against one port of one address. Its fields are set before
// use and then only read; sessions may run side by side.
type SMTP struct {
	Dial    func(context.Context) (net.Conn, error)
	Addr    netip.AddrPort // the tested address and port
	Helo    string         // our name
	Hello   string         // how sessions begin: EHLO, which "" means, or HELO
	TLS     TLS
	Proxied bool          // the port demands a PROXY header: send one with our true address
	Timeout time.Duration // for one reply; 0 is DefaultTimeout
	Banner  time.Duration // for the banner, which some servers hold back on purpose; 0 is Timeout
	Curves  []tls.CurveID // offered in handshakes; nil: those of crypto/tls

	Lockstep bool // one command at a time, also where PIPELINING is offered
}

// DefaultTimeout is the patience with one reply. RFC 5321 section 4.5.3.2
// asks five minutes of a client that has mail to deliver; a probe has none to
// lose, and a tarpit that answers later than this is reported as such.
const DefaultTimeout = 60 * time.Second

// A Play is one form made ready for one target.
type Play struct {
	Form     plan.Form
	Envelope plan.Envelope
	Token    plan.Token
	Local    mail.Address // a mailbox that the target serves, of the forms that need one
	Message  Message
	Login    plan.Credential // of the forms that guess one
	Held     string          // why no message is sent once the recipient is accepted; "": it is sent
}

// ErrNoBanner is returned when the server accepted the connection and then
// said nothing, or hung up, before the banner.
var ErrNoBanner = errors.New("no banner")

// ErrTurnedAway is returned when the server refused the session itself, and
// ErrNotConnected when there was no connection at all.
var (
	ErrTurnedAway   = errors.New("turned away")
	ErrNotConnected = errors.New("not connected")
)

// A Visit is one session with the server, up to and including EHLO.
type Visit struct {
	smtp    SMTP
	raw     *smtp.Raw
	record  *transcript.Transcript
	Session verdict.Session
	Local   netip.AddrPort // our side of the connection
	Paused  time.Duration  // how long the banner was held back
	stage   verdict.Stage  // what is being asked
	closed  bool
	step    step
	silent  bool // an answer did not come in time
}

// Open connects, reads the banner, says EHLO (or HELO where that is refused)
// and turns on TLS as the probe is told to. The transcript records everything.
// The session is filled as far as it came, also on an error.
func (p SMTP) Open(ctx context.Context, record *transcript.Transcript) (*Visit, error) {
	return p.open(ctx, record, p.greeting())
}

func (p SMTP) greeting() greeting { return greeting{hello: cmp.Or(p.Hello, "EHLO"), name: p.Helo} }

// A greeting is how a session begins, where a form wants it to begin unusually.
type greeting struct {
	prefix []byte // sent before the banner is read
	claims bool   // the prefix is a PROXY header of the form's own
	hello  string // EHLO, HELO, or "" to say neither
	name   string
	config *tls.Config
}

func (p SMTP) open(ctx context.Context, record *transcript.Transcript, g greeting) (*Visit, error) {
	conn, err := p.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	v := &Visit{smtp: p, record: record, Local: addrPort(conn.LocalAddr())}
	if p.Proxied && !g.claims {
		g.prefix = append(proxyV1(v.Local, p.Addr), g.prefix...)
	}
	if len(g.prefix) > 0 && p.TLS == Implicit {
		if _, err := conn.Write(g.prefix); err != nil { // the header stands before the TLS handshake
			conn.Close()
			return nil, fmt.Errorf("connect: %w", err)
		}
		g.prefix = nil
	}
	v.raw = smtp.NewRaw(conn, record)
	if err := v.greet(ctx, g); err != nil {
		v.Close()
		return v, err
	}
	return v, nil
}

func (v *Visit) greet(ctx context.Context, g greeting) error {
	if v.smtp.TLS == Implicit {
		if err := v.startTLS(ctx, g.config); err != nil {
			return fmt.Errorf("%w: TLS from the first byte: %w", ErrNoBanner, err)
		}
	}
	if len(g.prefix) > 0 {
		if err := v.raw.Write(ctx, g.prefix); err != nil {
			return fmt.Errorf("%w: %w", ErrNoBanner, err)
		}
	}
	var err error
	began := time.Now()
	if v.Session.Banner, err = v.replyWithin(ctx, v.smtp.Banner); err != nil {
		return fmt.Errorf("%w: %w", ErrNoBanner, err)
	}
	v.Paused = time.Since(began)
	if !v.Session.Banner.Positive() || g.hello == "" {
		return nil
	}
	if err := v.hello(ctx, g.hello, g.name); err != nil {
		return err
	}
	if v.Session.Hello.Permanent() && len(g.prefix) == 0 {
		v.catchUp(ctx, g.hello)
	}
	if v.Session.Hello.Permanent() && len(g.prefix) == 0 && g.hello == "EHLO" {
		if err := v.hello(ctx, "HELO", g.name); err != nil { // RFC 5321 section 3.2
			return err
		}
	}
	if v.smtp.TLS == StartTLS && v.Session.Hello.Positive() {
		return v.upgrade(ctx, g)
	}
	return nil
}

// upgrade turns on TLS in the middle of a session. The answer to the second
// EHLO replaces all that the first one said (RFC 3207 section 4.2).
func (v *Visit) upgrade(ctx context.Context, g greeting) error {
	r, err := v.command(ctx, "STARTTLS")
	if err != nil || !r.Positive() {
		return errors.Join(err, fmt.Errorf("STARTTLS: %s", r))
	}
	if err := v.startTLS(ctx, g.config); err != nil {
		return err
	}
	return v.hello(ctx, g.hello, g.name)
}

// startTLS verifies nothing: the probe asks what a stranger gets, whatever
// certificate the server shows.
func (v *Visit) startTLS(ctx context.Context, config *tls.Config) error {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.MinVersion = tls.VersionTLS10 // old servers can be open too
	config.InsecureSkipVerify = true
	config.ServerName = "" // a name that the target does not serve could end the handshake
	config.CurvePreferences = v.smtp.Curves
	ctx, cancel := v.limit(ctx, 0)
	defer cancel()
	if err := v.raw.StartTLS(ctx, config); err != nil {
		return err
	}
	v.Session.TLS = "TLS"
	if c, ok := v.raw.Conn().(*tls.Conn); ok {
		s := c.ConnectionState()
		v.Session.TLS = tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
		v.Session.Certificate = namesIn(s)
	}
	return nil
}

// maxNames is how many names of a certificate are kept; a host has a few.
const maxNames = 20

// namesIn returns the names of the server's certificate.
func namesIn(s tls.ConnectionState) []string {
	if len(s.PeerCertificates) == 0 {
		return nil
	}
	c := s.PeerCertificates[0]
	names := c.DNSNames
	if c.Subject.CommonName != "" && !slices.Contains(names, c.Subject.CommonName) {
		names = append([]string{c.Subject.CommonName}, names...)
	}
	return names[:min(len(names), maxNames)]
}

// ahead is how long one waits for a second answer to EHLO.
const ahead = time.Second

// catchUp looks whether the refusal of EHLO was an answer to something else: a
// forwarder that says the PROXY header to a server that does not know it makes
// all answers come one command late, and a MAIL that is taken look like a RCPT.
func (v *Visit) catchUp(ctx context.Context, verb string) {
	early := v.Session.Hello
	if r, err := v.replyWithin(ctx, ahead); err == nil && r.Positive() {
		v.record.Note(time.Now(), "the answer to "+verb+" came behind one to something that we have not said: "+early.String())
		v.helloed(verb, r)
	}
}

func (v *Visit) hello(ctx context.Context, verb, name string) error {
	r, err := v.command(ctx, verb+" "+name)
	v.helloed(verb, r)
	return err
}

// helloed takes the answer to EHLO or HELO.
func (v *Visit) helloed(verb string, r mail.Reply) {
	v.Session.Hello = r
	v.Session.Extensions = map[string]string{}
	if verb == "EHLO" && r.Positive() && len(r.Lines) > 1 {
		for _, line := range r.Lines[1:] {
			keyword, params, _ := strings.Cut(line, " ")
			keyword, old, _ := strings.Cut(keyword, "=") // "AUTH=LOGIN" of old servers
			v.Session.Extensions[strings.ToUpper(keyword)] = strings.TrimSpace(old + " " + params)
		}
	}
}

// TurnedAway returns the refusal with which the server ended the session
// before the first envelope, or nil. It closes the session then.
func (v *Visit) TurnedAway() error {
	r := v.Session.Banner
	if r.Positive() {
		r = v.Session.Hello
	}
	if r.Positive() {
		return nil
	}
	v.Close()
	return fmt.Errorf("%w: %s", ErrTurnedAway, r)
}

// Offers reports whether the server's EHLO showed the keyword.
func (v *Visit) Offers(keyword string) bool {
	_, ok := v.Session.Extensions[keyword]
	return ok
}

// Close says QUIT without waiting for the answer and closes the connection.
// Only the first call does anything.
func (v *Visit) Close() {
	if v.closed {
		return
	}
	v.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = v.raw.Write(ctx, []byte("QUIT\r\n"))
	_ = v.raw.Conn().Close()
}

func (v *Visit) command(ctx context.Context, line string) (mail.Reply, error) {
	if err := v.raw.Write(ctx, []byte(line+"\r\n")); err != nil {
		return mail.Reply{}, err
	}
	return v.reply(ctx)
}

func (v *Visit) reply(ctx context.Context) (mail.Reply, error) { return v.replyWithin(ctx, 0) }

func (v *Visit) replyWithin(ctx context.Context, d time.Duration) (mail.Reply, error) {
	ctx, cancel := v.limit(ctx, d)
	defer cancel()
	return v.raw.Reply(ctx)
}

var errPatience = errors.New("no answer in time")

func (v *Visit) limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		d = v.smtp.Timeout
	}
	if d == 0 {
		d = DefaultTimeout
	}
	return context.WithTimeoutCause(ctx, d, errPatience)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}
