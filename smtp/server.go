package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/netop"
)

// LineEnds says what the engine does with a CR or LF that stands alone, and with
// other things that no client of SMTP sends.
// RFC 5321 section 2.3.8 forbids them, and servers that disagree on them let
// one message be read as two (CVE-2023-51764 and its kin).
type LineEnds uint8

// The policies.
const (
	// StrictLines refuses the command or message and closes. It alone does so
	// at a NUL in a message, a control character in a command, and a line that
	// another protocol begins with.
	StrictLines LineEnds = iota
	// NormaliseLines makes a bare LF a CRLF and a bare CR a space. The end of
	// a message is still only CRLF.CRLF. For own clients that know no better.
	NormaliseLines
	// CarelessLines takes a bare LF for a line end everywhere, the end of a
	// message included. For servers that are open on purpose.
	CarelessLines
)

// A Server is the session engine. Its fields must not change once it runs. One
// Server may run on several listeners; they share its limits.
type Server struct {
	Name      string      // in the banner and in the answer to EHLO
	Handler   Handler     // asked at each connection; must not be nil
	TLS       *tls.Config // nil: no STARTTLS
	Implicit  bool        // TLS from the first octet (RFC 8314 section 3); no STARTTLS
	Limits    Limits      // zero fields take those of DefaultLimits
	Lines     LineEnds    // what a bare CR or LF is
	Without   []string    // keywords of extensions that are not offered, such as "CHUNKING"
	PlainAuth bool        // offer AUTH without TLS: for servers that are careless on purpose

	// Clients counts those who are there; nil: this server counts its own.
	Clients *Census
	// Known reports clients that were here before and did well: they have places
	// of their own where others are told that we are busy. It is asked at each
	// connection; nil: nobody is a stranger.
	Known func(netip.Addr) bool

	once    sync.Once
	filled  Limits
	own     Census
	retired atomic.Pointer[time.Time] // since when
}

// ErrServerClosed is the cause that hooks and Session.Close see when the
// context of the server has ended.
var ErrServerClosed = errors.New("the server is shutting down")

// Retire tells the server that another one takes its place on its listeners,
// which are closed after it. Run then does not end the sessions: they go on
// under the rules that they began with, until a client has nothing to say for
// some seconds between two messages, or ten minutes have passed.
func (s *Server) Retire() {
	now := time.Now()
	s.retired.CompareAndSwap(nil, &now)
}

// Retired reports that Retire was called.
func (s *Server) Retired() bool { return s.retired.Load() != nil }

func (s *Server) census() *Census {
	if s.Clients != nil {
		return s.Clients
	}
	return &s.own
}

func (s *Server) limits() *Limits {
	s.once.Do(func() { s.filled = s.Limits.WithDefaults() })
	return &s.filled
}

// Run serves the connections of l until ctx ends or l is closed, and closes l.
// It then answers idle clients with 421, lets messages that are under way come
// to their end within Limits.Drain, and returns when every session has ended:
// nil after ctx has ended, else why nobody can come in any more. Where no
// descriptor is left to serve a client by, it is told to come again.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var sessions sync.WaitGroup
	defer sessions.Wait() // before that: a retired server's end in their own time
	err := netop.Accept(ctx, l, s.turnAway, func(c net.Conn) {
		sessions.Go(func() { _ = s.ServeConn(ctx, c) }) // the session heard why in Close
	})
	if s.retired.Load() != nil {
		return nil
	}
	stop(ErrServerClosed)
	return err
}

// turnAway answers a client that there is nothing to serve it by. In TLS it
// could not be told why.
func (s *Server) turnAway(c net.Conn) {
	if s.Implicit || c.SetWriteDeadline(time.Now().Add(turnPatience)) != nil {
		return
	}
	_, _ = c.Write([]byte(replyBusy.String() + "\r\n")) // who is gone need not be told
}

// turnPatience is for one line into the empty buffer of a new connection.
const turnPatience = time.Second

// ServeConn serves one connection and closes it. It returns nil after QUIT,
// else why the session ended. When ctx ends, an idle client gets 421, and a
// message under way has Limits.Drain to come to its end.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	defer nc.Close()
	c := s.newConnection(ctx, nc)
	defer c.cancel(nil)
	defer c.free()
	c.stranger = s.Known != nil && !s.Known(c.peer.Remote.Addr())
	leave, refusal := s.census().enter(c.peer.Remote.Addr(), c.limits, c.stranger)
	defer leave()
	if !refusal.IsZero() {
		if !s.Implicit {
			c.close(refusal, errors.New(refusal.String()))
			_ = c.out.flush() // it is not told why it is refused, but refused it is
		}
		return fmt.Errorf("refused %s: %s", c.peer.Remote, refusal)
	}
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, c.halt)()
	}
	return c.serve()
}

// halt ends the session when the server shuts down: at its next command, or
// after Drain in the middle of whatever it does.
func (c *connection) halt() {
	c.in.interrupt()
	var over <-chan time.Time
	if c.limits.Drain >= 0 {
		t := time.NewTimer(c.limits.Drain)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
		c.cancel(ErrServerClosed)
		c.in.kill()
	case <-c.ctx.Done():
	}
}
