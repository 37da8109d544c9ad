package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"postern/connect"
	"postern/door"
	"postern/forward"
	"postern/transcript"
	"postern/verdict"
)

// A Wrapped is what a port told in a TLS handshake.
type Wrapped struct {
	Local netip.AddrPort
	TLS   string    // version and cipher suite
	Name  string    // that the handshake was given; "" where none was wanted
	Door  door.Door // none: the handshake did not tell
	Said  string    // of no door: what it said first of all, quoted
}

// How long a port that speaks TLS and chose no protocol is listened to: mail
// servers speak first, and take words that come before theirs amiss.
const patienceWord = time.Second

// SniffTLS finds out in one connection whether TLS is spoken. A server that
// chooses HTTP there (ALPN, RFC 7301) has said all that is asked. The error is
// ErrNotConnected, ErrAlert, or another of a handshake that failed.
func (s Proxy) SniffTLS(ctx context.Context) (Wrapped, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	w, err := s.sniffTLS(ctx)
	if s.Name != "" && errors.Is(err, ErrAlert) {
		s.Name = "" // a name that it does not serve ends the handshake at some
		w, err = s.sniffTLS(ctx)
	}
	return w, err
}

func (s Proxy) sniffTLS(ctx context.Context) (Wrapped, error) {
	conn, err := s.Dial(ctx)
	if err != nil {
		return Wrapped{}, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	defer conn.Close()
	t, err := s.handshake(ctx, conn, alpnHTTP2, alpnHTTP11)
	if err != nil {
		return Wrapped{}, err
	}
	state := t.ConnectionState()
	w := Wrapped{Local: addrPort(conn.LocalAddr()), TLS: tlsWords(state), Name: s.Name}
	if state.NegotiatedProtocol != "" {
		w.Door = door.Connect // it chose one of the two that were offered
		return w, nil
	}
	listening, cancel := context.WithTimeoutCause(ctx, patienceWord, errPatience)
	defer cancel()
	first := make([]byte, 64)
	n := 0
	err = alert(forward.Within(listening, t, "TLS", func() (err error) {
		n, err = io.ReadAtLeast(t, first, len("220"))
		return err
	}))
	switch {
	case n > 0:
		w.Door, w.Said = firstWord(first[:n])
	case errors.Is(err, ErrAlert): // since TLS 1.3 a server may want a certificate only now
		return Wrapped{}, err
	}
	return w, nil
}

// The protocols that are offered.
const (
	alpnHTTP11 = "http/1.1"
	alpnHTTP2  = "h2"
)

// ErrAlert is returned where the other side ends a handshake, and says why.
var ErrAlert = errors.New("it speaks TLS, and ends the handshake")

// handshake makes TLS with a proxy that is reached by it. Nothing is verified,
// as with mail servers: the probe asks what a stranger gets, and says nothing
// that is secret.
func (s Proxy) handshake(ctx context.Context, conn net.Conn, protocols ...string) (*tls.Conn, error) {
	config := &tls.Config{ServerName: s.Name, NextProtos: protocols}
	config.MinVersion = tls.VersionTLS10 // old proxies can be open too
	config.InsecureSkipVerify = true
	t, _, err := connect.Handshake(ctx, conn, config)
	return t, alert(err)
}

// alert makes ErrAlert of what package tls says where the other side sent one.
func alert(err error) error {
	var told *net.OpError
	if errors.As(err, &told) && told.Op == "remote error" {
		return fmt.Errorf("%w: %w", ErrAlert, told.Err)
	}
	return err
}

// noCertificate reports an error by which a server refuses whoever comes
// without a certificate. Since TLS 1.3 it comes after the handshake, in place
// of an answer (RFC 8446 section 4.4.2.4).
func noCertificate(err error) bool {
	const required = tls.AlertError(116)
	var told *net.OpError
	return errors.As(err, &told) && told.Op == "remote error" && told.Err.Error() == required.Error() // its own type is not exported
}

func tlsWords(s tls.ConnectionState) string {
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}

// wrap makes TLS before a proxy is asked. Each version of HTTP is offered
// alone: a proxy that speaks both may have rules for one. What answers without
// choosing is asked all the same. led is set where the asking ends here.
func (s Proxy) wrap(ctx context.Context, conn net.Conn, p Play, rec *transcript.Transcript) (net.Conn, led) {
	protocol := alpnHTTP11
	if p.Form.Move.Name == "connect-h2" {
		protocol = alpnHTTP2
	}
	t, err := s.handshake(ctx, conn, protocol)
	switch {
	case errors.Is(err, ErrAlert):
		// It did make TLS with us when other protocols were offered.
		rec.Note(time.Now(), protocol+" was offered: "+err.Error())
		return nil, led{answer: verdict.Unsupported, said: "no " + protocol + " inside TLS"}
	case err != nil:
		rec.Note(time.Now(), "TLS failed: "+err.Error())
		return nil, led{err: err}
	}
	state := t.ConnectionState()
	chosen := ", no protocol chosen"
	if state.NegotiatedProtocol != "" {
		chosen = ", " + state.NegotiatedProtocol + " chosen"
	}
	rec.StartTLS(time.Now(), tlsWords(state)+chosen)
	return t, led{}
}
