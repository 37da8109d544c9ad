package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"postern/forward"
	"postern/plan"
	"postern/socks"
	"postern/transcript"
	"postern/verdict"
)

// SOCKS plays forms against a SOCKS proxy.
type SOCKS struct{ Proxy }

// socksMoves are the requests of the socks door; a test holds them to forms.tsv.
var socksMoves = map[string]func(to forward.Address, p Play) socks.Request{
	"socks5": func(to forward.Address, _ Play) socks.Request {
		return socks.Request{Version: 5, Command: socks.Connect, To: to}
	},
	"socks4": func(to forward.Address, _ Play) socks.Request {
		return socks.Request{Version: 4, Command: socks.Connect, To: to, User: "postern"}
	},
	"socks4a": func(to forward.Address, _ Play) socks.Request {
		return socks.Request{Version: 4, Command: socks.Connect, To: to, User: "postern"}
	},
	"socks5-login": func(to forward.Address, _ Play) socks.Request { return withLogin(to, randomLogin()) },
	"socks5-guess": func(to forward.Address, p Play) socks.Request { return withLogin(to, p.Login) },
	"socks5-bind": func(to forward.Address, _ Play) socks.Request {
		return socks.Request{Version: 5, Command: socks.Bind, To: to}
	},
	"socks5-udp": func(forward.Address, Play) socks.Request {
		// RFC 1928 section 7: a client that does not know yet from where it will send says so with zeros.
		return socks.Request{Version: 5, Command: socks.UDPAssociate, To: nowhere}
	},
}

func withLogin(to forward.Address, l plan.Credential) socks.Request {
	return socks.Request{Version: 5, Command: socks.Connect, To: to, Methods: []socks.Method{socks.UserPassword}, User: l.User, Password: l.Password}
}

// errGarbled is about an answer that a proxy gave in another way than it had
// begun: nobody can tell whether it was a yes.
var errGarbled = errors.New("it began as a proxy, and answered what is no word of its protocol")

var nowhere = forward.At(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))

// Play plays one form; see Proxy.
func (s SOCKS) Play(ctx context.Context, p Play) (verdict.Exchange, error) {
	x, err := s.play(ctx, p, askSOCKS)
	hungUp := x.Outcome == verdict.Dropped && x.Stage == verdict.AtProxy
	if err == nil && (hungUp || x.Said == socks.ErrNoMethod.Error()) && p.Form.Move.Name == "socks5" {
		// Some let nobody in who does not offer a login, and then do not ask for it.
		y, err := s.play(ctx, p, askSOCKSOffering)
		if err == nil && y.Answer != verdict.WantsLogin && y.Answer != "" {
			return y, nil
		}
	}
	return x, err
}

// askSOCKSOffering offers a login beside none, as many clients do, and has none.
func askSOCKSOffering(ctx context.Context, conn net.Conn, p Play, rec *transcript.Transcript) (net.Conn, led) {
	return ask(ctx, conn, p, rec, socks.NoAuth, socks.UserPassword)
}

func askSOCKS(ctx context.Context, conn net.Conn, p Play, rec *transcript.Transcript) (net.Conn, led) {
	return ask(ctx, conn, p, rec)
}

// ask offers the methods, where there are some instead of the move's own.
func ask(ctx context.Context, conn net.Conn, p Play, rec *transcript.Transcript, methods ...socks.Method) (net.Conn, led) {
	requestTo, ok := socksMoves[p.Form.Move.Name]
	if !ok {
		return nil, led{err: fmt.Errorf("form %s: no move %q at the socks door", p.Form.ID, p.Form.Move.Name)}
	}
	to := nowhere
	if p.Envelope.MoveArg != "" {
		var err error
		if to, err = forward.ParseAddress(p.Envelope.MoveArg); err != nil {
			return nil, led{err: err}
		}
	}
	request := requestTo(to, p)
	if len(methods) > 0 {
		request.Methods = methods
	}
	reply, err := request.Play(ctx, conn, rec)
	l := led{said: reply.Code.String(), answer: socksAnswers[reply.Code]}
	var no *socks.ReplyError
	switch {
	case errors.As(err, &no):
		l.said, l.answer = no.Code.String(), socksAnswers[no.Code]
		if l.answer == "" {
			l.answer = verdict.Rejected // a code that nobody has defined
		}
		return nil, l
	case errors.Is(err, socks.ErrNotSOCKS) && request.Version == 5 && reply.Method == socks.NoAuth:
		return nil, led{err: fmt.Errorf("%w: %w", errGarbled, err)}
	case errors.Is(err, socks.ErrNotSOCKS):
		return nil, led{err: fmt.Errorf("%w: %w", ErrForeign, err)}
	case errors.Is(err, socks.ErrNoMethod), errors.Is(err, socks.ErrLoginWanted), errors.Is(err, socks.ErrBadMethod), errors.Is(err, socks.ErrAuth):
		return nil, led{answer: verdict.WantsLogin, said: err.Error()}
	case err != nil:
		return nil, led{err: err}
	case request.Command != socks.Connect:
		return nil, led{answer: verdict.Granted, done: true, said: fmt.Sprintf("%s is granted, at %s", request.Command, reply.Bound)}
	}
	return conn, l
}

// socksAnswers say what a code means for a stranger. 1 and 91 do not say
// whether a rule or the network stood in the way.
var socksAnswers = map[socks.Code]verdict.Answer{
	socks.Succeeded:          verdict.Granted,
	socks.GeneralFailure:     verdict.Rejected,
	socks.NotAllowed:         verdict.Forbidden,
	socks.NetworkUnreachable: verdict.Unreachable,
	socks.HostUnreachable:    verdict.Unreachable,
	socks.ConnectionRefused:  verdict.Unreachable,
	socks.TTLExpired:         verdict.Unreachable,
	socks.NoSuchCommand:      verdict.Unsupported,
	socks.NoSuchAddressType:  verdict.Unsupported,
	socks.Granted4:           verdict.Granted,
	socks.Rejected4:          verdict.Rejected,
	socks.NoIdent4:           verdict.WantsLogin,
	socks.BadIdent4:          verdict.WantsLogin,
}
