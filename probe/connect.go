package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"postern/connect"
	"postern/forward"
	"postern/plan"
	"postern/transcript"
	"postern/verdict"
)

// Connect plays forms against a web proxy.
type Connect struct{ Proxy }

// connectMoves are the requests of the connect door; a test holds them to forms.tsv.
var connectMoves = map[string]func(ctx context.Context, conn net.Conn, to forward.Address, p Play, rec *transcript.Transcript) (net.Conn, led){
	"connect":        tunnelBy(connect.HTTP11),
	"connect-http10": tunnelBy(connect.HTTP10),
	"connect-h2":     tunnelBy(connect.HTTP2),
	"connect-login": func(ctx context.Context, conn net.Conn, to forward.Address, p Play, rec *transcript.Transcript) (net.Conn, led) {
		return tunnelWithLogin(ctx, conn, to, p, randomLogin(), rec)
	},
	"connect-guess": func(ctx context.Context, conn net.Conn, to forward.Address, p Play, rec *transcript.Transcript) (net.Conn, led) {
		return tunnelWithLogin(ctx, conn, to, p, p.Login, rec)
	},
	"post": inBody(http.MethodPost),
	"put":  inBody(http.MethodPut),
}

// Play plays one form; see Proxy.
func (s Connect) Play(ctx context.Context, p Play) (verdict.Exchange, error) {
	return s.play(ctx, p, s.ask)
}

func (s Connect) ask(ctx context.Context, conn net.Conn, p Play, rec *transcript.Transcript) (net.Conn, led) {
	move, ok := connectMoves[p.Form.Move.Name]
	if !ok {
		return nil, led{err: fmt.Errorf("form %s: no move %q at the connect door", p.Form.ID, p.Form.Move.Name)}
	}
	to, err := forward.ParseAddress(p.Envelope.MoveArg)
	if err != nil {
		return nil, led{err: err}
	}
	return move(ctx, conn, to, p, rec)
}

// fields say who we are, as in the message: the proxy's owner reads them in its
// log. They are those of a browser besides, since some proxies serve nobody
// else: their clients begin so, and say Proxy-Connection as browsers used to.
func fields(p Play) http.Header {
	return http.Header{"User-Agent": {agent(p.Form.ID)}, "Proxy-Connection": {"keep-alive"}}
}

func agent(what string) string {
	return "Mozilla/5.0 (compatible; Postern-check " + what + ")"
}

func tunnelBy(v connect.Version) func(context.Context, net.Conn, forward.Address, Play, *transcript.Transcript) (net.Conn, led) {
	return func(ctx context.Context, conn net.Conn, to forward.Address, p Play, rec *transcript.Transcript) (net.Conn, led) {
		return tunnel(ctx, conn, connect.Request{To: to, Version: v, Header: fields(p)}, rec)
	}
}

func tunnelWithLogin(ctx context.Context, conn net.Conn, to forward.Address, p Play, l plan.Credential, rec *transcript.Transcript) (net.Conn, led) {
	r := connect.Request{To: to, Header: fields(p)}
	r.Auth.User, r.Auth.Password = l.User, l.Password
	return tunnel(ctx, conn, r, rec)
}

func tunnel(ctx context.Context, conn net.Conn, r connect.Request, rec *transcript.Transcript) (net.Conn, led) {
	way, result, err := r.Connect(ctx, conn, rec)
	if err == nil {
		// RFC 9110 section 9.3.6: a proxy's yes has neither length nor type.
		page := result.Header.Get("Content-Length") != "" || result.Header.Get("Content-Type") != "" || result.Header.Get("Transfer-Encoding") != ""
		length, _ := strconv.Atoi(result.Header.Get("Content-Length")) // 0 where there is none
		return &preface{Conn: way, length: length, rec: rec}, led{answer: verdict.Granted, said: said(result), shown: shown(result), page: page}
	}
	l := httpLed(result, err)
	if r.Version == connect.HTTP2 && l.err != nil && !errors.Is(l.err, forward.ErrTimeout) {
		l.err = fmt.Errorf("%w: %w", ErrForeign, l.err) // most proxies that speak HTTP/1 hang up on its first octets
	}
	return nil, l
}

// httpLed reads an answer that made no tunnel.
func httpLed(result connect.Result, err error) led {
	var status *connect.StatusError
	switch {
	case errors.As(err, &status), err == nil:
		return led{answer: httpAnswer(result.Status), said: said(result), shown: shown(result)}
	case errors.Is(err, connect.ErrNotHTTP):
		return led{err: fmt.Errorf("%w: %w", ErrForeign, err)}
	}
	return led{err: err}
}

func said(r connect.Result) string {
	return strings.TrimSpace(fmt.Sprintf("HTTP %d %s", r.Status, r.Reason))
}

// maxShown bounds what is kept of a proxy's fields.
const maxShown = 1 << 10

// shown returns what proxies say of themselves: the line of the answer, and
// the fields that are for it.
func shown(r connect.Result) string {
	var b strings.Builder
	b.WriteString(said(r) + "\n")
	for _, name := range []string{"Server", "Via", "Proxy-Agent", "Proxy-Authenticate", "X-Squid-Error", "X-Cache"} {
		for _, value := range r.Header.Values(name) {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	text := b.String()
	return text[:min(len(text), maxShown)]
}

// httpAnswer says what a status means for a stranger. A proxy that could not
// reach the place says so with 502 to 504, some with 500; one that has had
// enough for now (429) may lead there later.
func httpAnswer(status int) verdict.Answer {
	switch {
	case status == http.StatusProxyAuthRequired:
		return verdict.WantsLogin
	case status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		return verdict.Forbidden
	case status == http.StatusHTTPVersionNotSupported, status == http.StatusNotImplemented:
		return verdict.Unsupported
	case status >= 500 && status <= 504, status == http.StatusTooManyRequests:
		return verdict.Unreachable
	}
	return verdict.NoProxy
}

// inBody sends a whole conversation in the body of a request. What comes back
// is at best the far server's words, at worst the proxy's complaint about
// them: only the arrival tells.
func inBody(method string) func(context.Context, net.Conn, forward.Address, Play, *transcript.Transcript) (net.Conn, led) {
	return func(ctx context.Context, conn net.Conn, to forward.Address, p Play, rec *transcript.Transcript) (net.Conn, led) {
		r := connect.Request{To: to, Header: fields(p)}
		result, err := r.Post(ctx, conn, method, []byte(conversation(p)), rec)
		if result.Status == 0 && len(result.Text) > 0 {
			if greeted.Match(result.Text) {
				return nil, bodyLed(result.Text)
			}
			if err == nil {
				err = connect.ErrNotHTTP
			}
		}
		if result.Status != 0 {
			err = nil
		}
		l := httpLed(result, err)
		if l.err == nil && result.Status/100 == 2 {
			l.answer = verdict.NoProxy // a web server takes what it is sent
		}
		return nil, l
	}
}

// conversation is the client's half of a session, as far as it can be said
// without hearing the other.
func conversation(p Play) string {
	return "\r\nRSET\r\nHELO " + p.Message.From.Domain().ASCII() + "\r\nMAIL FROM:<" + p.Envelope.Sender + ">\r\nRCPT TO:<" + p.Envelope.Recipient + ">\r\nDATA\r\n" +
		p.Message.String() + ".\r\nQUIT\r\n"
}

// greeted is a mail server's greeting, and taken its yes to a whole message.
var (
	greeted = regexp.MustCompile(`(?m)^220[ -]`)
	taken   = regexp.MustCompile(`(?ms)^354[ -].*^250[ -]`)
)

// bodyLed reads the words of a mail server that came back for a request.
func bodyLed(text []byte) led {
	at := greeted.FindIndex(text)[0]
	first, _, _ := strings.Cut(string(text[at:]), "\n")
	l := led{answer: verdict.Granted, done: taken.Match(text), said: strings.TrimSpace(first)}
	if b, ok := plan.ParseBanner(strings.TrimPrefix(first, "220 ")); ok {
		l.nonce, l.exit = b.Nonce, b.Peer
	}
	return l
}
