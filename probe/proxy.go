package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"postern/forward"
	"postern/mail"
	"postern/plan"
	"postern/smtp"
	"postern/transcript"
	"postern/verdict"
)

// ErrForeign is returned when what answers at a port does not speak the
// protocol of the door.
var ErrForeign = errors.New("it speaks another protocol")

// A Proxy is the stranger's side of a door at which a proxy stands. It asks
// for the place that a form names and, when it is led there, plays the form's
// envelope to whatever mail server answers. Its fields are set before use and
// then only read.
type Proxy struct {
	Dial    func(context.Context) (net.Conn, error)
	Addr    netip.AddrPort // of the proxy
	Helo    string         // our name in EHLO
	TLS     TLS            // Plain, or Implicit where it is reached inside TLS
	Name    string         // for the handshake; "": none
	Timeout time.Duration  // for one answer of the proxy or reply of the server; 0 is DefaultTimeout
	Hasty   bool           // nothing came in time when others asked for as much
}

// A lead asks a proxy on a connection on which nothing was said. It returns
// the connection that leads to the place, nil where there is none.
type lead func(ctx context.Context, conn net.Conn, p Play, rec *transcript.Transcript) (net.Conn, led)

// led is what came of asking.
type led struct {
	answer verdict.Answer
	said   string // by the proxy
	shown  string // of itself
	err    error  // of the wire
	page   bool   // the yes is that of a web server, which sends a page
	done   bool   // the answer to a form that asks for no tunnel
	nonce  string // of the banner, where it came with the answer
	exit   netip.Addr
}

// play plays one form in a connection of its own. The error is ErrNotConnected,
// ErrForeign, or that of a caller who has stopped; the exchange says the rest.
func (s Proxy) play(ctx context.Context, p Play, ask lead) (verdict.Exchange, error) {
	record := &transcript.Transcript{}
	x := verdict.Exchange{
		Form: p.Form, Envelope: p.Envelope, Token: p.Token, Tries: 1, Transcript: record,
		Outcome: verdict.NotRun, Stage: verdict.AtConnect,
	}
	conn, err := s.Dial(ctx)
	if err != nil {
		x.Why = err.Error()
		return x, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	defer conn.Close() // also of the octets below TLS
	asking, cancel := s.limit(ctx)
	var tunnel net.Conn
	var l led
	if s.TLS == Implicit {
		conn, l = s.wrap(asking, conn, p, record)
	}
	if conn != nil {
		tunnel, l = ask(asking, conn, p, record)
	}
	if noCertificate(l.err) {
		l = led{answer: verdict.WantsLogin, said: "wants a certificate of its clients"}
	}
	cancel()
	x.Stage, x.Answer, x.Said, x.Shown, x.Nonce, x.Exit, x.At = verdict.AtProxy, l.answer, l.said, l.shown, l.nonce, l.exit, time.Now()
	if l.err != nil || tunnel == nil {
		return refusedBy(ctx, x, l)
	}
	defer tunnel.Close()
	x, err = s.through(ctx, p, tunnel, l.page, x)
	if l.page && (x.Outcome == verdict.Silent || x.Outcome == verdict.Dropped) && x.Stage == verdict.AtBanner {
		x.Outcome, x.Answer, x.Stage, x.Said = verdict.Denied, verdict.NoProxy, verdict.AtProxy, x.Said+", as to a request for a page"
	}
	return x, err
}

// How long a probe waits for a proxy, which may be trying to connect, and for
// the first octet in a tunnel: the collector greets at once, and who says yes
// before it has connected needs no more than that connection takes.
const (
	patienceAnswer = 30 * time.Second
	patienceBanner = 20 * time.Second
	patiencePage   = 5 * time.Second

	hastyAnswer = 10 * time.Second
	hastyBanner = 5 * time.Second
)

// limit bounds the wait for the answer of the proxy, which may be trying to
// reach the place meanwhile.
func (s Proxy) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	d := patienceAnswer
	if s.Hasty {
		d = hastyAnswer
	}
	return context.WithTimeoutCause(ctx, s.atMost(d), errPatience)
}

func (s Proxy) atMost(d time.Duration) time.Duration {
	if s.Timeout > 0 {
		d = min(d, s.Timeout)
	}
	return d
}

func refusedBy(ctx context.Context, x verdict.Exchange, l led) (verdict.Exchange, error) {
	switch {
	case ctx.Err() != nil:
		x.Outcome, x.Why = verdict.NotRun, "stopped"
		return x, context.Cause(ctx)
	case errors.Is(l.err, ErrForeign):
		x.Outcome, x.Answer = verdict.NotOffered, verdict.Unsupported
		return x, l.err
	case errors.Is(l.err, errGarbled):
		x.Why = l.err.Error() // NotRun: nothing is decided
	case errors.Is(l.err, forward.ErrTimeout):
		x.Outcome = verdict.Silent
	case errors.Is(l.err, forward.ErrClosed):
		x.Outcome = verdict.Dropped
	case l.err != nil:
		x.Outcome, x.Said = verdict.Dropped, l.err.Error()
	case l.done && l.answer == verdict.Granted:
		x.Outcome = verdict.Taken
	case l.answer == verdict.Granted: // a conversation in a body that came to nothing
		x.Outcome, x.Stage = verdict.Denied, verdict.AtData
	case l.answer == verdict.Unsupported:
		x.Outcome = verdict.NotOffered
	default:
		x.Outcome = verdict.Denied
	}
	return x, nil
}

// through plays the envelope in the tunnel. Nothing that answers there is
// taken on its word: whose server it is shows when the message arrives.
func (s Proxy) through(ctx context.Context, p Play, tunnel net.Conn, page bool, x verdict.Exchange) (verdict.Exchange, error) {
	server := SMTP{Dial: func(context.Context) (net.Conn, error) { return tunnel, nil }, Addr: s.Addr, Helo: s.Helo, Timeout: s.Timeout}
	switch server.Banner = s.atMost(patienceBanner); {
	case page:
		server.Banner = s.atMost(patiencePage)
	case s.Hasty:
		server.Banner = s.atMost(hastyBanner)
	}
	hello := "EHLO"
	if p.Form.Set == plan.Info {
		hello = "" // the banner is all that is wanted
	}
	v, err := server.open(ctx, x.Transcript, greeting{hello: hello, name: s.Helo})
	x.At = time.Now()
	if v != nil {
		defer v.Close()
		x.Stage, x.Reply, x.Banner = verdict.AtBanner, v.Session.Banner, v.Session.Banner.Text()
		if b, ok := plan.ParseBanner(v.Session.Banner.Text()); ok {
			x.Nonce, x.Exit = b.Nonce, b.Peer
		}
	}
	if err != nil {
		return noServer(ctx, x, err)
	}
	banner := v.Session.Banner
	switch {
	case !banner.Positive():
		return asIn(x, v.exchange(p, verdict.AtBanner, banner)), nil
	case p.Form.Set == plan.Info:
		x.Outcome, x.Said = verdict.Taken, "led us to "+p.Envelope.MoveArg
		if x.Exit.IsValid() {
			x.Said += ", where we came from " + x.Exit.String()
		}
		return x, nil
	case !v.Session.Hello.Positive():
		return asIn(x, v.exchange(p, verdict.AtHello, v.Session.Hello)), nil
	}
	done, err := v.transact(ctx, p)
	if err != nil {
		if done, err = v.lost(verdict.Exchange{Form: p.Form, Envelope: p.Envelope, Token: p.Token, Tries: 1, Transcript: x.Transcript}, v.stage, err); err != nil {
			return asIn(x, done), err
		}
	}
	return asIn(x, done), nil
}

// asIn returns the exchange with the mail server, with what the proxy said before it.
func asIn(x, server verdict.Exchange) verdict.Exchange {
	server.Answer, server.Said, server.Shown, server.Banner, server.Nonce, server.Exit = x.Answer, x.Said, x.Shown, x.Banner, x.Nonce, x.Exit
	return server
}

// noServer is told of a tunnel in which no mail server greeted.
func noServer(ctx context.Context, x verdict.Exchange, err error) (verdict.Exchange, error) {
	x.Stage, x.Reply = verdict.AtBanner, mail.Reply{}
	var wire *smtp.WireError
	switch {
	case ctx.Err() != nil:
		x.Outcome, x.Why = verdict.NotRun, "stopped"
		return x, context.Cause(ctx)
	case errors.Is(err, smtp.ErrNotSMTP) && errors.As(err, &wire):
		x.Outcome, x.Said = verdict.Denied, fmt.Sprintf("said yes, and then %.60q", wire.Seen)
	case errors.Is(err, smtp.ErrTimeout):
		x.Outcome = verdict.Silent
	default:
		x.Outcome = verdict.Dropped
	}
	return x, nil
}

// randomLogin is a name and a password that nobody has.
func randomLogin() plan.Credential {
	return plan.Credential{User: "postern-" + rand.Text()[:12], Password: rand.Text()}
}
