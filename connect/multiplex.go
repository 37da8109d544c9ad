package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern/forward"
	"postern/internal/netop"
)

// A multiplex is one connection of HTTP/2. Each of its streams is a request;
// the library has the frames.
type multiplex struct {
	server *Server
	limits forward.Limits
	places *forward.Places // where its tunnels are counted; nil: nowhere
	peer   Peer

	calm    *calm
	asked   atomic.Bool  // a request came
	refused atomic.Int64 // how many

	mu      sync.Mutex
	own     bool // a tunnel has the place that the connection itself holds
	ended   bool
	running sync.WaitGroup
}

// What one connection can hold.
const (
	// RFC 9113 section 6.5.2: less than a hundred streams is of no use to a browser.
	maxStreams = 100
	// Behind so many refusals the client must connect again: on one connection
	// guesses would cost nothing.
	maxRefused = 20
	// What may lie unread because a destination is slow, of one tunnel and of
	// all: sixteen that take nothing leave no room for the others.
	streamBuffer, connBuffer = 256 << 10, 4 << 20
)

var errUnasked = errors.New("the connection ended without a request")

// serve serves c, on which nothing was read, until its client or ctx ends it;
// behind open it takes no requests and ends with its last tunnel. It returns
// nil where a request came: each has told the handler of its end.
func (m *multiplex) serve(ctx, open context.Context, c net.Conn) error {
	l := &single{conn: make(chan net.Conn, 1), over: make(chan struct{})}
	m.calm = newCalm(c)
	l.conn <- m.calm
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true) // to the library: where TLS has chosen it, that lies below
	library := &http.Server{
		Handler:                      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.request(ctx, w, r) }),
		DisableGeneralOptionsHandler: true, // every request is ours to answer
		Protocols:                    protocols,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(l.over)
			}
		},
		MaxHeaderBytes:    maxHead,
		ReadHeaderTimeout: max(m.limits.Request, 0),
		WriteTimeout:      max(m.limits.Request, 0), // of an answer; a tunnel has other limits
		IdleTimeout:       max(m.limits.Request, 0), // without a stream it is a client that says no request
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          m.streams(),
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerStream:     streamBuffer,
			MaxReceiveBufferPerConnection: connBuffer,
			WriteByteTimeout:              max(m.limits.Idle, 0),
		},
	}
	silent(&library.ErrorLog)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer context.AfterFunc(open, func() {
		_ = library.Shutdown(open) // says GOAWAY; it would wait, and need not
	})()
	_ = library.Serve(l) // returns when the connection has ended, whose end is no error
	stop()
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.running.Wait()
	switch {
	case m.asked.Load():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case m.calm.isRestless():
		return &forward.WireError{Doing: "HTTP/2 request", Err: errRestless}
	}
	return &forward.WireError{Doing: "HTTP/2 request", Kind: forward.ErrClosed, Err: errUnasked}
}

// streams is how many may be open at once: no more than places, so that a
// client is told of the bound before it runs into it.
func (m *multiplex) streams() int {
	n := maxStreams
	for _, most := range []int{m.limits.PerClient, m.limits.Connections} {
		if most > 0 {
			n = min(n, most)
		}
	}
	return n
}

// take takes a place for a tunnel: the connection's own, or another one.
func (m *multiplex) take() (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.places == nil:
		return func() {}
	case m.own:
		return m.places.Take(m.peer.Remote.Addr())
	}
	m.own = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.own = false
	}
}

// request serves one stream. It does so in a goroutine of our own: what panics
// there is our mistake, and the library would pass over it in silence.
func (m *multiplex) request(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return
	}
	done, whole := make(chan struct{}), false
	m.running.Go(func() {
		defer close(done)
		peer := m.peer
		peer.Method = r.Method
		m.asked.Store(true)
		var a asked
		var n forward.Count
		var err error
		a, n, whole, err = m.tunnel(ctx, &peer, w, r)
		m.server.Handler.Ended(&peer, a.Request, n, err)
	})
	m.mu.Unlock()
	if <-done; !whole {
		panic(http.ErrAbortHandler) // so the library is told to reset the stream
	}
}

// tunnel answers one request and carries its tunnel. It is whole where the
// client may be told a proper end.
func (m *multiplex) tunnel(ctx context.Context, p *Peer, w http.ResponseWriter, r *http.Request) (a asked, n forward.Count, whole bool, err error) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // until there is an answer, Limits.Dial counts
	if r.Method != http.MethodConnect {
		a.Version = HTTP2
		return a, n, true, m.refuse(w, a, Refusal{http.StatusMethodNotAllowed, "CONNECT only"})
	}
	if a, err = parseStream(r); err != nil {
		a = asked{Request: Request{Version: HTTP2}} // what was read of it may hold a credential
		return a, n, true, errors.Join(err, m.refuse(w, a, Refusal{http.StatusBadRequest, "bad request"}))
	}
	leave := m.take()
	if leave == nil {
		return a, n, true, errors.Join(ErrPlaces, m.refuse(w, a, Refusal{http.StatusServiceUnavailable, "too many tunnels at once"}))
	}
	defer leave()
	far, refusal := m.dial(r.Context(), p, a.Request)
	if far == nil {
		return a, n, true, m.refuse(w, a, *refusal)
	}
	s := &stream{writer: w, control: control, body: r.Body, peer: m.peer, calm: m.calm, torn: func() { reset(far) }}
	defer s.leave()
	w.Header()["Date"] = nil // the hour of this machine is nobody's affair
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		far.Close()
		return a, n, false, &forward.WireError{Doing: "CONNECT answer", Kind: forward.ErrClosed, Err: err}
	}
	// The stream may end in a way that no read of it shows: reset, behind an
	// end of the client's half.
	cutting, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	defer context.AfterFunc(r.Context(), func() {
		if !s.hasEnded() {
			s.torn()
			cut(&forward.WireError{Doing: "HTTP/2 stream", Kind: forward.ErrClosed, Err: context.Cause(r.Context())})
		}
	})()
	n, err = forward.Splice(cutting, s, far, m.limits)
	return a, n, err == nil || errors.Is(err, forward.ErrHalf) && s.hasEnded(), err
}

// reset makes conn end in a way that is no proper end: where a client's stream
// fails, its destination must not take what came for all (RFC 9113 section 8.5).
func reset(conn net.Conn) {
	if t, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = t.SetLinger(0)
	}
}

func (m *multiplex) dial(ctx context.Context, p *Peer, r Request) (net.Conn, *Refusal) {
	ctx, cancel := netop.Limited(ctx, m.limits.Dial, "the destination")
	defer cancel()
	far, refusal := m.server.Handler.Connect(ctx, p, r)
	if far == nil && refusal == nil {
		refusal = noConnection
	}
	return far, refusal
}

// refuse answers and returns an error that says so.
func (m *multiplex) refuse(w http.ResponseWriter, a asked, r Refusal) error {
	r = r.clean()
	if m.limits.Request >= 0 {
		// A client that opens no window would keep what it is not told.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(m.limits.Request))
	}
	h := w.Header()
	h["Date"] = nil
	h.Set("Content-Type", textType)
	if r.Status == http.StatusProxyAuthRequired {
		h.Set("Proxy-Authenticate", m.server.challenge())
	}
	if m.refused.Add(1) >= maxRefused {
		h.Set("Connection", "close") // to the library: no more streams, and close when the last has ended
	}
	w.WriteHeader(r.Status)
	if _, err := io.WriteString(w, r.Text+"\r\n"); err != nil {
		return &forward.WireError{Doing: "answer", Kind: forward.ErrClosed, Err: err}
	}
	return fmt.Errorf("%w: %s: %d %s", ErrRefused, a.To, r.Status, r.Text)
}

// parseStream reads what the library took from the frames by the same rules as
// a head of HTTP/1.
func parseStream(r *http.Request) (asked, error) {
	a := asked{method: r.Method, Request: Request{Version: HTTP2}}
	fields := 0
	for name, values := range r.Header {
		fields += len(values)
		for _, v := range values {
			if !isToken(name) || !isValue(v) { // ":protocol" is no token: RFC 8441 is not served
				return a, bad("field %.40q", name)
			}
		}
	}
	if fields > maxFields {
		return a, bad("more than %d fields", maxFields)
	}
	a.Header = r.Header
	if err := errors.Join(a.framing(), a.credential()); err != nil {
		return a, err
	}
	if len(a.Header) == 0 {
		a.Header = nil
	}
	return a, a.target(r.Host)
}

// A single is the listener of one connection, and over with it.
type single struct {
	conn chan net.Conn
	over chan struct{}
}

// Accept returns the connection, and an error when it has ended.
func (l *single) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close does nothing: the connection's end is the listener's.
func (l *single) Close() error { return nil }

// Addr returns no address of use.
func (l *single) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }

// silent gives the library a log that leads nowhere. This package has none,
// and what goes wrong is told to the handler; so the log is made without its
// name.
func silent[Log any, P interface {
	*Log
	SetOutput(w io.Writer)
}](log *P,
) {
	*log = new(Log)
	(*log).SetOutput(io.Discard)
}

// A stream is the client's end of a tunnel over HTTP/2, for Splice.
type stream struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	body    io.ReadCloser
	peer    Peer
	calm    *calm
	torn    func() // called when the client's half has failed

	mu      sync.Mutex
	writing bool
	ended   bool // the destination has said all
	closed  bool
}

// errNoHalf says that one half of a stream cannot be ended alone: the library
// ends ours when it is done with the request, and resets what the client still
// sends. So the client's half has Limits.Half to end, as where a connection
// has no halves at all.
var errNoHalf = errors.New("the library ends both halves of a stream")

func (s *stream) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Read reads from the client. Once the destination has ended, a client that
// resets the stream has ended it too.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.calm.carried(n)
	switch {
	case err == nil, errors.Is(err, io.EOF):
	case s.hasEnded():
		err = io.EOF
	case !s.isClosed():
		s.torn()
	}
	return n, err
}

// Write writes to the client, and returns when the frames have left.
func (s *stream) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, net.ErrClosed
	}
	s.writing = true
	s.mu.Unlock()
	if n, err = s.writer.Write(p); err == nil {
		err = s.control.Flush()
	}
	s.calm.carried(n)
	s.mu.Lock()
	s.writing = false
	s.mu.Unlock()
	return n, err
}

// CloseWrite notes that the destination has said all.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return errNoHalf
}

// Close ends what reads or writes. The stream itself ends with its request.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.writing {
		_ = s.control.SetWriteDeadline(time.Unix(1, 0)) // resets the stream
	}
	return s.body.Close()
}

// leave says that the request is over: the library takes its writer back.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// LocalAddr returns that of the connection below.
func (s *stream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.peer.Local) }

// RemoteAddr returns the client's.
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.peer.Remote) }

// SetDeadline is not needed: Splice closes what is to end.
func (s *stream) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// SetReadDeadline is as SetDeadline.
func (s *stream) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline is as SetDeadline.
func (s *stream) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
