package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"postern/door"
	"postern/forward"
	"postern/internal/netop"
	"postern/probe"
	"postern/smtp"
)

// sniffed is what the first words to a port told.
type sniffed struct {
	doors []door.Door
	four  bool // of SOCKS, it hung up on version 5
	login bool // of SOCKS, it wants one
	local netip.AddrPort
	tls   string // version and cipher suite, where the doors are inside TLS
	sni   string // the name that its handshake was given
	why   string // of no door: what was heard instead
	do    string // of no door: what helps, where it may be one
	err   error  // there was no connection at all

	mayBeTLS     bool
	said, hungUp int // words, and how many of them it hung up on
	silent       int // and how many it did not answer
}

// usualTLS are the ports at which TLS is spoken unless something is odd: there
// the handshake is the first word, and all that most web servers see of it.
var usualTLS = []uint16{443, 8443}

// sniff finds out which of the doors answer at a port, in the clear or inside
// TLS.
func (p *port) sniff(ctx context.Context, doors []door.Door) (sniffed, error) {
	if err := p.pace.wait(ctx); err != nil {
		return sniffed{}, err
	}
	// Dialled before there is more than one, since most ports are shut.
	conn, err := p.dial(ctx)
	if err != nil {
		return sniffed{err: err}, ctx.Err()
	}
	local := netop.AddrPort(conn.LocalAddr())
	first := func() net.Conn { c := conn; conn = nil; return c }
	early := slices.Contains(usualTLS, p.addr.Port())
	var inside, s sniffed
	if early {
		inside = p.sniffTLS(ctx, doors, first)
	}
	if !inside.speaksTLS() {
		s = p.words(ctx, doors, first)
		if !early && s.hasTLS(doors) && ctx.Err() == nil {
			inside = p.sniffTLS(ctx, doors, first)
		}
	}
	if len(inside.doors) > 0 || len(s.doors) == 0 && inside.speaksTLS() {
		s = inside
	}
	p.wrapped, p.sni = s.tls != "", s.sni
	if s.hungUp > 0 && len(s.doors) == 0 && s.why == "" && slices.Contains(doors, door.SOCKS) && ctx.Err() == nil {
		via := p.proxy()
		via.Timeout = p.silence()
		p.sniffSOCKS(ctx, probe.SOCKS{Proxy: via}, &s)
	}
	if s.hungUp+s.silent > 0 && len(s.doors) == 0 && s.why == "" && slices.Contains(doors, door.Connect) && ctx.Err() == nil {
		p.sniffTunnel(ctx, &s)
	}
	s.local = local
	s.explain()
	return s, ctx.Err()
}

// sniffSOCKS says other first words of SOCKS to one that has hung up on the
// usual one.
func (p *port) sniffSOCKS(ctx context.Context, via probe.SOCKS, s *sniffed) {
	for _, word := range []struct {
		say  func(context.Context) (probe.Heard, error)
		four bool
	}{{via.SniffOffering, false}, {via.SniffFour, true}} {
		h, err := word.say(ctx)
		s.said++
		switch {
		case err == nil && h.Door == door.SOCKS:
			s.doors, s.four, s.login = []door.Door{door.SOCKS}, word.four, s.login || h.Login
			return
		case errors.Is(err, forward.ErrClosed):
			s.hungUp++
		}
	}
}

// sniffTunnel asks one that has hung up on us so far, or has not answered, to
// be led to the collector, which is what it is asked for later: some proxies know nothing but CONNECT.
func (p *port) sniffTunnel(ctx context.Context, s *sniffed) {
	four, number := p.facts.Front.Four, p.facts.Front.Ports[25]
	if !four.IsValid() || number == 0 {
		return
	}
	via := p.proxy()
	via.Timeout = p.silence()
	if s.hungUp == 0 {
		via.Timeout /= 2 // it was silent that long already
	}
	h, err := probe.Connect{Proxy: via}.SniffTunnel(ctx, netip.AddrPortFrom(four, number).String())
	s.said++
	switch {
	case err == nil && h.Door == door.Connect:
		s.doors = []door.Door{door.Connect}
	case errors.Is(err, forward.ErrClosed):
		s.hungUp++
	}
}

// hasTLS reports whether a handshake may be what the port waits for: it said
// so, or hung up on words in the clear, or was told none but that of SOCKS,
// which is too short for a record of TLS.
func (s sniffed) hasTLS(doors []door.Door) bool {
	return s.mayBeTLS || len(s.doors) == 0 && s.why == "" && (s.hungUp > 0 || !slices.Contains(doors, door.Connect))
}

func (s sniffed) speaksTLS() bool { return s.tls != "" || s.why != "" }

// explain says of no door what was heard.
func (s *sniffed) explain() {
	inside := ""
	if s.tls != "" {
		inside = "inside TLS "
	}
	switch {
	case s.why != "":
	case s.said > 0 && s.hungUp == s.said:
		s.why = "it takes the connection and hangs up " + inside + "on our first word, whichever that is: so does a server that speaks to nobody but its own clients, and what it does for those cannot be seen from here"
		s.do = "test from an address that it is meant to serve, or see in its configuration who that is"
	default:
		s.why = "it took the connection and said neither SOCKS nor HTTP"
	}
}

// A taker hands out the connection that is there already, once; then nil.
type taker func() net.Conn

// dialFirst returns via, whose first connection is the one that is there.
func dialFirst(via probe.Proxy, first taker) probe.Proxy {
	if conn := first(); conn != nil {
		dial := via.Dial
		via.Dial = func(ctx context.Context) (net.Conn, error) {
			if c := conn; c != nil {
				conn = nil
				return c, nil
			}
			return dial(ctx)
		}
	}
	return via
}

// sniffTLS asks inside TLS. Where there is none nothing is returned.
func (p *port) sniffTLS(ctx context.Context, doors []door.Door, first taker) sniffed {
	via := p.proxy()
	via.Timeout = p.silence()
	if !p.facts.Host.IsZero() && !p.facts.Host.IsLiteral() {
		via.Name = p.facts.Host.ASCII()
	}
	w, err := dialFirst(via, first).SniffTLS(ctx)
	switch {
	case errors.Is(err, probe.ErrAlert):
		return sniffed{why: err.Error(), do: "test it by the name that its certificate has, and see what it wants of its clients"}
	case err != nil:
		return sniffed{}
	}
	via.TLS, via.Name = probe.Implicit, w.Name
	p.wrapped, p.sni = true, w.Name
	s := sniffed{}
	switch {
	case w.Door == door.Connect && !slices.Contains(doors, door.Connect):
		s.why = "no proxy of this kind: it speaks HTTP inside TLS"
	case w.Door != 0:
		s.doors = []door.Door{w.Door}
	case w.Said != "":
		s.why = "no proxy: inside TLS it said " + w.Said
	default:
		s = p.words(ctx, doors, first)
	}
	s.tls, s.sni = w.TLS, w.Name
	return s
}

// words says the first word of each of the doors, in one connection each, side
// by side. When one is recognised the others have not much time left: a port
// that is several doors answers at each as fast as at the first.
func (p *port) words(ctx context.Context, doors []door.Door, first taker) sniffed {
	type result struct {
		i   int
		h   probe.Heard
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(doors))
	began := time.Now()
	for i, d := range doors {
		via := p.proxy()
		via.Timeout = p.silence()
		via = dialFirst(via, first)
		go func() {
			r := result{i: i}
			if d == door.SOCKS {
				r.h, r.err = probe.SOCKS{Proxy: via}.Sniff(ctx)
			} else {
				r.h, r.err = probe.Connect{Proxy: via}.Sniff(ctx)
			}
			results <- r
		}()
	}
	heard, errs := make([]probe.Heard, len(doors)), make([]error, len(doors))
	for range doors {
		r := <-results
		heard[r.i], errs[r.i] = r.h, r.err
		if r.h.Door != 0 {
			grace := max(time.Second, 3*time.Since(began))
			timer := time.AfterFunc(grace, cancel)
			defer timer.Stop()
		}
	}
	return hear(heard, errs)
}

// hear puts together what was answered to each word.
func hear(heard []probe.Heard, errs []error) sniffed {
	s := sniffed{said: len(heard)}
	for i, h := range heard {
		s.login, s.mayBeTLS = s.login || h.Login, s.mayBeTLS || h.TLS
		switch {
		case h.Door != 0 && !slices.Contains(s.doors, h.Door):
			s.doors = append(s.doors, h.Door)
		case h.Said != "" && s.why == "":
			s.why = "no proxy: it said " + h.Said
		case errors.Is(errs[i], forward.ErrClosed):
			s.hungUp++
		case errors.Is(errs[i], smtp.ErrTimeout):
			s.silent++
		}
	}
	return s
}
