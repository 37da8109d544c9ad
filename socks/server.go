package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"postern/forward"
	"postern/internal/netop"
)

// A Peer is what a server knows of one client.
type Peer struct {
	Remote  netip.AddrPort
	Local   netip.AddrPort
	Version int    // 4 or 5
	Method  Method // the one that was chosen
	User    string // who logged in; in SOCKS 4 only who the client says it is
}

// A Handler decides. Its methods are called one after the other for one
// client, and at once for many.
type Handler interface {
	// Method chooses one of the methods that the client offers; what it did
	// not offer, or NoMethod, refuses it. SOCKS 4 knows none, so there NoAuth
	// alone is offered. The server speaks NoAuth and UserPassword.
	Method(ctx context.Context, p *Peer, offered []Method) Method
	// Login reports whether user and password are right. Both are as the
	// client sent them.
	Login(ctx context.Context, p *Peer, user, password string) bool
	// Connect returns a connection to the address, or a code of SOCKS 5 that
	// says why not; in SOCKS 4 each of them is "rejected". The server closes
	// the connection.
	Connect(ctx context.Context, p *Peer, to forward.Address) (net.Conn, Code)
	// Ended is told how each client's visit ended: to is none where no request
	// came, err nil where a tunnel was made and both ends closed it.
	Ended(p *Peer, to forward.Address, n forward.Count, err error)
}

// A Server speaks SOCKS 4, 4a and 5, of the commands CONNECT alone. Its fields
// must not change once it runs.
type Server struct {
	Handler Handler
	Limits  forward.Limits // zero fields take those of forward.DefaultLimits
	Only    int            // 4 or 5: the other version is not spoken
}

// Run serves the connections of l until ctx ends, cuts its tunnels then, and
// waits for them. An SMTP client behind a tunnel that is cut sends again.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	return forward.Serve(ctx, l, s.Limits, func(ctx context.Context, c net.Conn) {
		_ = s.ServeConn(ctx, c) // the handler heard why in Ended
	})
}

// ServeConn serves one connection and closes it.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) error {
	defer c.Close()
	limits := s.Limits.WithDefaults()
	v := &visit{server: s, conn: c, peer: Peer{Remote: netop.AddrPort(c.RemoteAddr()), Local: netop.AddrPort(c.LocalAddr()), Method: NoMethod}}
	var n forward.Count
	err := v.ask(ctx, limits)
	if err == nil {
		n, err = forward.Splice(ctx, c, v.far, limits)
	}
	s.Handler.Ended(&v.peer, v.to, n, err)
	return err
}

// What a client did wrong; test with errors.Is.
var (
	ErrNotAsked = errors.New("not a SOCKS request")
	ErrRefused  = errors.New("refused")
)

// A visit is one client's handshake.
type visit struct {
	server *Server
	conn   net.Conn
	peer   Peer
	to     forward.Address
	far    net.Conn
}

// ask reads the handshake and makes the connection to where it leads.
func (v *visit) ask(ctx context.Context, l forward.Limits) error {
	reading, cancel := netop.Limited(ctx, l.Request, "the SOCKS request")
	defer cancel()
	if err := forward.Within(reading, v.conn, "SOCKS request", func() error { return v.request(reading) }); err != nil {
		return err
	}
	dialing, cancelDial := netop.Limited(ctx, l.Dial, "the destination")
	defer cancelDial()
	far, code := v.server.Handler.Connect(dialing, &v.peer, v.to)
	switch {
	case far == nil && code.Granted():
		code = GeneralFailure
	case far != nil && !code.Granted():
		far.Close()
	}
	var bound forward.Address
	if code.Granted() {
		v.far, bound = far, forward.At(netop.AddrPort(far.LocalAddr()))
	}
	answering, cancelAnswer := netop.Limited(ctx, l.Request, "the client to read its answer")
	defer cancelAnswer()
	err := forward.Within(answering, v.conn, "SOCKS answer", func() error { return v.answer(code, bound) })
	switch {
	case err == nil && code.Granted():
		return nil
	case v.far != nil:
		v.far.Close()
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s: %s", ErrRefused, v.to, code)
}

func (v *visit) request(ctx context.Context) error {
	first, err := octets(v.conn, 1)
	if err != nil {
		return err
	}
	version := int(first[0])
	if version != 4 && version != 5 || v.server.Only != 0 && v.server.Only != version {
		// Without a word: who speaks no SOCKS understands none.
		return fmt.Errorf("%w: begins with %#02x", ErrNotAsked, first[0])
	}
	v.peer.Version = version
	if version == 4 {
		return v.request4(ctx)
	}
	if err := v.greet(ctx); err != nil {
		return err
	}
	return v.request5()
}

// greet agrees on a method and lets the client log in.
func (v *visit) greet(ctx context.Context) error {
	offered, err := readMethods(v.conn)
	if err != nil {
		return err
	}
	m := v.server.Handler.Method(ctx, &v.peer, offered)
	if !slices.Contains(offered, m) || m != NoAuth && m != UserPassword {
		m = NoMethod
	}
	v.peer.Method = m
	if _, err := v.conn.Write([]byte{5, byte(m)}); err != nil {
		return err
	}
	switch m {
	case NoMethod:
		return fmt.Errorf("%w: %s", ErrRefused, m)
	case UserPassword:
		user, password, err := readLogin(v.conn)
		if err != nil {
			return err
		}
		if !v.server.Handler.Login(ctx, &v.peer, user, password) {
			_, _ = v.conn.Write([]byte{1, 1}) // it is refused whether it hears of it or not
			return fmt.Errorf("%w: wrong user or password", ErrRefused)
		}
		v.peer.User = user
		_, err = v.conn.Write([]byte{1, 0})
		return err
	case NoAuth, GSSAPI:
	}
	return nil
}

func (v *visit) request5() error {
	command, to, code, err := readRequest5(v.conn)
	if err != nil && code == Succeeded {
		return err
	}
	if err == nil && command != Connect {
		code, err = NoSuchCommand, fmt.Errorf("%w: %s", ErrRefused, command)
	}
	if err != nil {
		_ = v.answer(code, forward.Address{}) // the same
		return err
	}
	v.to = to
	return nil
}

func (v *visit) request4(ctx context.Context) error {
	command, to, user, err := readRequest4(v.conn)
	v.peer.User = user
	switch {
	case errors.Is(err, ErrNotAsked):
	case err != nil:
		return err
	case command != Connect:
		err = fmt.Errorf("%w: %s", ErrRefused, command)
	default:
		if v.peer.Method = v.server.Handler.Method(ctx, &v.peer, []Method{NoAuth}); v.peer.Method == NoAuth {
			v.to = to
			return nil
		}
		err = fmt.Errorf("%w: SOCKS 4 knows no login", ErrRefused)
	}
	_ = v.answer(GeneralFailure, forward.Address{}) // the same
	return err
}

func (v *visit) answer(code Code, bound forward.Address) error {
	_, err := v.conn.Write(appendReply(v.peer.Version, code, bound))
	return err
}

// appendReply writes a reply of either version.
func appendReply(version int, code Code, bound forward.Address) []byte {
	if version == 5 {
		return appendAddress([]byte{5, byte(code), 0}, bound)
	}
	b := []byte{0, byte(Rejected4), byte(bound.Port() >> 8), byte(bound.Port())}
	if code.Granted() {
		b[1] = byte(Granted4)
	}
	if ip := bound.IP(); ip.Is4() {
		return append(b, ip.AsSlice()...)
	}
	return append(b, 0, 0, 0, 0)
}

// CodeOf returns the code that tells a client why a dial failed.
func CodeOf(err error) Code {
	var t net.Error
	switch {
	case err == nil:
		return Succeeded
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnectionRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return NetworkUnreachable
	case errors.As(err, &t) && t.Timeout(), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, context.DeadlineExceeded):
		return HostUnreachable
	}
	return GeneralFailure
}

func octets(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
