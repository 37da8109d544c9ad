package connect

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"postern/forward"
	"postern/internal/netop"
)

// A Peer is what a server knows of one client.
type Peer struct {
	Remote netip.AddrPort
	Local  netip.AddrPort
	Method string // CONNECT, or the method of an absolute URI
}

// A Refusal is why a client gets no way: the status and a short text.
type Refusal struct {
	Status int // 403, 407, 502, 504, ...
	Text   string
}

// A Handler decides. Its methods are called one after the other for one Peer,
// and at once for many: over HTTP/2 every stream is a request with a Peer of
// its own.
type Handler interface {
	// Connect returns a connection to r.To, or why not. It looks at r.Auth;
	// the header holds neither that nor what frames the request. The server
	// closes the connection.
	Connect(ctx context.Context, p *Peer, r Request) (net.Conn, *Refusal)
	// Ended is told once how each request ended, and each connection on which
	// none came: r.To is none where nothing was understood, err nil where a way
	// was given and both ends closed it.
	Ended(p *Peer, r Request, n forward.Count, err error)
}

// A Server speaks HTTP as a proxy does: 1.0 and 1.1 with one request for each
// connection, and HTTP/2 with one for each stream, where TLS has chosen it or,
// in the clear, the client begins with it. Streams are bounded as connections
// are: all but one of a connection's take a further place of Limits.PerClient
// and Limits.Connections, and who finds none is answered 503. Its fields must
// not change once it runs.
type Server struct {
	Handler  Handler
	Limits   forward.Limits // zero fields take those of forward.DefaultLimits
	Absolute bool           // serve absolute URIs too, as old proxies do; not over HTTP/2
	Realm    string         // what a client that must log in is told; "" is "proxy"
}

// Run serves the connections of l until ctx ends, cuts its tunnels then, and
// waits for them. An SMTP client behind a tunnel that is cut sends again. When
// l is closed before, tunnels go on and nothing is asked for any more.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	places := forward.NewPlaces(s.Limits)
	open, closed := context.WithCancel(ctx)
	defer closed()
	return places.Serve(ctx, &closing{l, closed}, func(ctx context.Context, c net.Conn) {
		_ = s.serveConn(ctx, open, c, places) // the handler heard why in Ended
	})
}

// A closing listener says so when it is closed: who took its place may serve
// by other rules, and connections that carry many requests must go there.
type closing struct {
	net.Listener
	closed func()
}

// Accept returns the next connection.
func (l *closing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if errors.Is(err, net.ErrClosed) {
		l.closed()
	}
	return c, err
}

// The kinds of the error about a client that got no way; test with errors.Is.
var (
	ErrRefused = errors.New("refused")
	ErrPlaces  = errors.New("its client has no place left") // of Limits.PerClient or Limits.Connections
)

// ServeConn serves one connection and closes it. It returns what Ended was
// told, over HTTP/2 nil where a request came. The handshake of a *tls.Conn is
// made here, where it was not yet.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	return s.serveConn(ctx, ctx, c, nil)
}

// serveConn takes requests until open ends, and carries tunnels until ctx does.
func (s *Server) serveConn(ctx, open context.Context, c net.Conn, places *forward.Places) error {
	defer c.Close()
	v := &visit{server: s, conn: c, limits: s.Limits.WithDefaults(), peer: Peer{Remote: netop.AddrPort(c.RemoteAddr()), Local: netop.AddrPort(c.LocalAddr())}}
	n, err := v.serve(ctx)
	if errors.Is(err, errMultiplex) {
		m := &multiplex{server: s, limits: v.limits, places: places, peer: v.peer}
		if err = m.serve(ctx, open, forward.Unread(c, v.rest)); err == nil {
			return nil
		}
	}
	s.Handler.Ended(&v.peer, v.asked.Request, n, err)
	return err
}

// A visit is one client's request of HTTP/1, or finds that there will be many.
type visit struct {
	server *Server
	conn   net.Conn
	limits forward.Limits
	peer   Peer
	asked  asked
	secure bool   // TLS is below
	rest   []byte // what came behind the head
}

func (v *visit) serve(ctx context.Context) (forward.Count, error) {
	if err := v.read(ctx); err != nil {
		return forward.Count{}, err
	}
	dialing, cancel := netop.Limited(ctx, v.limits.Dial, "the destination")
	defer cancel()
	far, refusal := v.server.Handler.Connect(dialing, &v.peer, v.asked.Request)
	if far == nil {
		if refusal == nil {
			refusal = noConnection
		}
		return forward.Count{}, v.refuse(ctx, *refusal)
	}
	client := forward.Unread(v.conn, v.rest)
	var err error
	if v.asked.method == http.MethodConnect {
		err = v.write(ctx, v.conn, "CONNECT answer", []byte(v.version()+" 200 Connection established\r\n\r\n"))
	} else {
		err = v.write(ctx, far, "request", v.asked.onward())
		client = &bodyConn{Conn: client, left: v.asked.length}
	}
	if err != nil {
		far.Close()
		return forward.Count{}, err
	}
	return forward.Splice(ctx, client, far, v.limits)
}

var noConnection = &Refusal{Status: http.StatusBadGateway, Text: "no connection"}

// maxHead bounds a request's head: a target, a credential and some fields.
const maxHead = 8 << 10

// preface is how a client of HTTP/2 begins (RFC 9113 section 3.4). It ends a
// head of HTTP/1, so that a server of that version answers.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// errMultiplex says that the connection speaks HTTP/2.
var errMultiplex = errors.New("HTTP/2")

// handshake makes the connection's TLS, where it has one, and says which
// version of HTTP it chose.
func (v *visit) handshake(ctx context.Context) error {
	t, ok := v.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := forward.Within(ctx, t, "TLS", t.Handshake); err != nil {
		return err
	}
	v.secure = true
	if t.ConnectionState().NegotiatedProtocol == "h2" {
		return errMultiplex
	}
	return nil
}

// begun reports whether text, which may go on, begins as HTTP/2 does. Over TLS
// it does not: there the handshake chooses the version (RFC 9113 section 3.2).
func (v *visit) begun(text []byte) bool {
	n := min(len(text), len(preface))
	return !v.secure && n > 0 && string(text[:n]) == preface[:n]
}

// read reads one head; what came with it and belongs behind it is kept.
func (v *visit) read(ctx context.Context) error {
	reading, cancel := netop.Limited(ctx, v.limits.Request, "the request")
	defer cancel()
	if err := v.handshake(reading); err != nil {
		return err
	}
	var text []byte
	err := forward.Within(reading, v.conn, "request", func() (err error) {
		text, err = v.head()
		return err
	})
	if errors.Is(err, errMultiplex) {
		return err
	}
	if err == nil && len(text) > maxHead {
		err = ErrTooLong
	}
	if err == nil {
		v.asked, err = parseRequest(text)
		v.peer.Method = v.asked.method
	}
	switch {
	case errors.Is(err, errBad):
		return errors.Join(err, v.refuse(ctx, Refusal{http.StatusBadRequest, "bad request"}))
	case errors.Is(err, ErrTooLong):
		return errors.Join(err, v.refuse(ctx, Refusal{http.StatusRequestHeaderFieldsTooLarge, "head too long"}))
	case errors.Is(err, forward.ErrTimeout) && len(text) > 0:
		return errors.Join(err, v.refuse(ctx, Refusal{http.StatusRequestTimeout, "too slow"}))
	case err != nil:
		return err
	case v.asked.method != http.MethodConnect && !v.server.Absolute:
		return v.refuse(ctx, Refusal{http.StatusMethodNotAllowed, "CONNECT only"})
	}
	return nil
}

// head reads to the blank line, or so far that it is clear that none will come.
func (v *visit) head() (text []byte, err error) {
	b := make([]byte, 2<<10)
	for from := 0; ; {
		n, err := v.conn.Read(b)
		text = append(text, b[:n]...)
		if v.begun(text) {
			switch {
			case len(text) >= len(preface):
				v.rest = text
				return nil, errMultiplex
			case err != nil:
				return text, err
			}
			continue
		}
		if i := bytes.Index(text[from:], []byte("\r\n\r\n")); i >= 0 {
			at := from + i + 4
			v.rest = text[at:]
			return text[:at:at], nil
		}
		switch {
		case len(text) > 0 && !isToken(string(text[:1])):
			return text, bad("begins with %q", text[:1]) // another protocol may never end its head
		case len(text) > maxHead:
			return text, ErrTooLong
		case err != nil:
			return text, err
		}
		from = max(0, len(text)-3)
	}
}

func (v *visit) version() string { return v.asked.Version.String() }

// refuse answers and returns an error that says so.
func (v *visit) refuse(ctx context.Context, r Refusal) error {
	r = r.clean()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n", v.version(), r.Status, http.StatusText(r.Status), textType, len(r.Text)+2)
	if r.Status == http.StatusProxyAuthRequired {
		fmt.Fprintf(&b, "Proxy-Authenticate: %s\r\n", v.server.challenge())
	}
	fmt.Fprintf(&b, "\r\n%s\r\n", r.Text)
	if err := v.write(ctx, v.conn, "answer", b.Bytes()); err != nil {
		return err
	}
	forward.Linger(v.conn)
	return fmt.Errorf("%w: %s: %d %s", ErrRefused, v.asked.To, r.Status, r.Text)
}

const textType = "text/plain; charset=utf-8"

// clean returns r with a text that can stand on a line.
func (r Refusal) clean() Refusal {
	if !isValue(r.Text) {
		r.Text = http.StatusText(r.Status)
	}
	return r
}

// challenge is what a client that must log in is told (RFC 7617).
func (s *Server) challenge() string {
	realm := s.Realm
	if realm == "" {
		realm = "proxy"
	}
	return fmt.Sprintf("Basic realm=%q, charset=\"UTF-8\"", realm)
}

func (v *visit) write(ctx context.Context, c net.Conn, what string, p []byte) error {
	writing, cancel := netop.Limited(ctx, v.limits.Request, "the peer to read")
	defer cancel()
	return forward.Within(writing, c, what, func() error {
		_, err := c.Write(p)
		return err
	})
}

// A bodyConn is read as one body and then to the client's end: what follows
// the body is another request, and there is none on this connection.
type bodyConn struct {
	net.Conn
	left int64
}

func (b *bodyConn) Read(p []byte) (int, error) {
	if b.left > 0 {
		n, err := b.Conn.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		if errors.Is(err, io.EOF) && b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	for {
		if _, err := b.Conn.Read(p); err != nil {
			return 0, err
		}
	}
}

// CloseWrite says that no more will be written, where the connection can.
func (b *bodyConn) CloseWrite() error {
	if h, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// RefusalOf returns what tells a client why a dial failed.
func RefusalOf(err error) *Refusal {
	if isTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return &Refusal{http.StatusGatewayTimeout, "the destination did not answer in time"}
	}
	return &Refusal{http.StatusBadGateway, "no connection to the destination"}
}
