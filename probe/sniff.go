package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"time"

	"postern/door"
	"postern/smtp"
)

// A Heard is what a port said to a first word: which door it is, or what it
// said instead.
type Heard struct {
	Door  door.Door      // none: no door that we know
	Local netip.AddrPort // our side of the connection
	Said  string         // of no door: its first octets, quoted
	TLS   bool           // it may speak TLS: an alert, or an answer of HTTP that the request is bad
	Login bool           // of SOCKS: it lets nobody on without one
}

// Sniff finds out in one connection whether a SOCKS proxy answers. It asks for
// no place: of version 5 a proxy says how it wants to be logged in to. One
// that speaks version 4 alone is not found by it, but by SniffFour.
func (s SOCKS) Sniff(ctx context.Context) (Heard, error) {
	return s.sniff(ctx, []byte{5, 1, 0}, door.SOCKS, isSOCKS5)
}

// SniffOffering is Sniff for one that hangs up on whoever offers no login
// beside none. It has none to give.
func (s SOCKS) SniffOffering(ctx context.Context) (Heard, error) {
	return s.sniff(ctx, []byte{5, 2, 0, 2}, door.SOCKS, isSOCKS5)
}

// SniffFour finds out in one connection whether a SOCKS proxy of version 4
// answers. A request is the first word there; port 0 is no place to go to.
func (s SOCKS) SniffFour(ctx context.Context) (Heard, error) {
	return s.sniff(ctx, []byte{4, 1, 0, 0, 0, 0, 0, 0, 0}, door.SOCKS, isSOCKS4)
}

// Sniff finds out in one connection whether HTTP is spoken. OPTIONS for the
// server as a whole (RFC 9110 section 9.3.7) asks nothing of it.
func (s Connect) Sniff(ctx context.Context) (Heard, error) {
	request := fmt.Sprintf("OPTIONS * HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", s.Addr, agent("looks"))
	return s.sniff(ctx, []byte(request), door.Connect, isHTTP)
}

// SniffTunnel finds out in one connection whether HTTP is spoken by one that
// hangs up on all requests but CONNECT, or does not answer them.
func (s Connect) SniffTunnel(ctx context.Context, to string) (Heard, error) {
	request := fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nProxy-Connection: keep-alive\r\n\r\n", to, to, agent("looks"))
	return s.sniff(ctx, []byte(request), door.Connect, isHTTP)
}

// Page asks for the page of the server itself and returns the status: a proxy
// answers that as any server does, and what stands before a server that is
// down answers it as it answers everything.
func (s Connect) Page(ctx context.Context) (status int, err error) {
	conn, err := s.Dial(ctx)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	defer conn.Close()
	ctx, cancel := s.limit(ctx)
	defer cancel()
	if s.TLS == Implicit {
		if conn, err = s.handshake(ctx, conn, alpnHTTP11); err != nil {
			return 0, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", s.Addr, agent("looks")); err != nil {
		return 0, silence(ctx, err)
	}
	b, err := firstOctets(conn)
	if _, bad := fmt.Sscanf(string(b), "HTTP/1.%1d %3d", new(int), &status); bad != nil {
		return 0, errors.Join(bad, err)
	}
	return status, nil
}

// sniff says a word and looks at the first octets that come back.
func (s Proxy) sniff(ctx context.Context, word []byte, d door.Door, is func([]byte) bool) (Heard, error) {
	conn, err := s.Dial(ctx)
	if err != nil {
		return Heard{}, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	defer conn.Close()
	h := Heard{Local: addrPort(conn.LocalAddr())}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	if s.TLS == Implicit {
		t, err := s.handshake(ctx, conn, alpnHTTP11)
		if err != nil {
			return h, err
		}
		conn = t
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(word); err != nil {
		return h, silence(ctx, err)
	}
	b, err := firstOctets(conn)
	if len(b) == 0 {
		return h, silence(ctx, err)
	}
	h.take(b, d, is)
	return h, nil
}

// The answers by which doors are known.
func isSOCKS5(b []byte) bool { return len(b) > 1 && b[0] == 5 }
func isSOCKS4(b []byte) bool { return len(b) > 1 && b[0] == 0 && b[1] >= 90 && b[1] <= 93 }
func isHTTP(b []byte) bool   { return bytes.HasPrefix(b, []byte("HTTP/")) }

// take judges the first octets of an answer to the word of a door.
func (h *Heard) take(b []byte, d door.Door, is func([]byte) bool) {
	if is(b) {
		h.Door, h.Login = d, d == door.SOCKS && b[0] == 5 && b[1] != 0
		h.TLS = d == door.Connect && badRequest.Match(b)
		return
	}
	h.Door, h.Said = firstWord(b)
	h.TLS = bytes.HasPrefix(b, []byte{0x15, 3}) // RFC 8446 section 5.1: the content type of alerts, and the version
}

// badRequest is the answer of web servers to a request that came without the
// TLS that they wait for, and to others that they do not like.
var badRequest = regexp.MustCompile(`^HTTP/1\.[01] 400`)

// firstOctets reads until it can be told what was said: some servers write
// octet by octet.
func firstOctets(conn net.Conn) ([]byte, error) {
	b := make([]byte, 64)
	for n := 0; ; {
		k, err := conn.Read(b[n:])
		n += k
		if err != nil || !undecided(b[:n]) {
			return b[:n], err
		}
	}
}

// undecided reports whether more octets could make another thing of b.
func undecided(b []byte) bool {
	const status, greeting = "HTTP/", "220"
	n := len(b)
	return n < 2 || // two tell SOCKS from others
		n < len("HTTP/1.1 400") && string(b[:min(n, len(status))]) == status[:min(n, len(status))] ||
		n < len(greeting) && string(b) == greeting[:n]
}

// firstWord is what no word of ours was answered with: a mail server's
// greeting, which comes first, or something else.
func firstWord(b []byte) (door.Door, string) {
	if bytes.HasPrefix(b, []byte("220")) {
		return door.SMTP, ""
	}
	return 0, fmt.Sprintf("%.60q", b)
}

// silence is the error of a port that said nothing.
func silence(ctx context.Context, err error) error {
	var timeout net.Error
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", smtp.ErrTimeout, context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w", smtp.ErrClosed, err)
}
