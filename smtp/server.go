package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// LineEnds says what the engine does with a CR or LF that stands alone.
// RFC 5321 section 2.3.8 forbids them, and servers that disagree on them let
// one message be read as two (CVE-2023-51764 and its kin).
type LineEnds uint8

// The policies.
const (
	// StrictLines refuses the command or message with 550 5.6.0 and closes.
	StrictLines LineEnds = iota
	// NormaliseLines makes a bare LF a CRLF and a bare CR a space. The end of
	// a message is still only CRLF.CRLF. For own clients that know no better.
	NormaliseLines
	// CarelessLines takes a bare LF for a line end everywhere, the end of a
	// message included. For servers that are open on purpose.
	CarelessLines
)

// A Server is the session engine. Its fields must not change once it runs.
type Server struct {
	Name      string      // the name in the banner and in the answer to EHLO
	Handler   Handler     //
	TLS       *tls.Config // nil: no STARTTLS
	Implicit  bool        // TLS from the first octet (RFC 8314 section 3); no STARTTLS
	Limits    Limits      // zero fields take those of DefaultLimits
	Lines     LineEnds    //
	Without   []string    // keywords of extensions that are not offered, such as "CHUNKING"
	PlainAuth bool        // offer AUTH without TLS: for servers that are careless on purpose

	once sync.Once
	run  running
}

type running struct{}

// ErrServerClosed is the cause that hooks and Session.Close see when Run's
// context has ended.
var ErrServerClosed = errors.New("the server is shutting down")

// Run serves the connections of l until ctx ends or l fails. It then closes
// l, answers idle clients with 421, lets running transactions end within
// Limits.Drain, and returns when every session has ended. After ctx has ended
// it returns nil.
func (s *Server) Run(ctx context.Context, l net.Listener) error { return nil }

// ServeConn serves one connection and closes it. It returns nil after QUIT.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error { return nil }
