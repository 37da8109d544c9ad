package collect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// zoneUDP is the greatest answer over UDP, whatever the asker offers (DNS
	// flag day 2020): a zone that answers strangers shall not be an amplifier.
	zoneUDP = 1232
	// A resolver asks for a handful of names a test; more from one network is
	// a flood, or answers to forged questions.
	zoneRate, zoneBurst = 50, 200
	zoneTCP             = 100 // connections at once
)

// Run answers from pc and l until ctx ends, and closes both.
func (z *Zone) Run(ctx context.Context, pc net.PacketConn, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &zoneHandler{zone: z, limit: newLimiter(zoneRate, zoneBurst)}
	servers := []*dns.Server{
		{PacketConn: pc, Handler: h, UDPSize: zoneUDP, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second},
		{Listener: newLimitListener(l, zoneTCP), Handler: h, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxTCPQueries: 64},
	}
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		wg.Go(func() {
			defer cancel()
			defer close(ended)
			errs[i] = s.ActivateAndServe()
		})
		wg.Go(func() {
			select { // Shutdown before the start is none
			case <-started:
			case <-ended:
				return
			}
			<-ctx.Done()
			bounded, done := context.WithTimeout(context.WithoutCancel(ctx), 6*time.Second)
			defer done()
			_ = s.ShutdownContext(bounded) // it fails when the server has ended by itself
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("serve the zone %s: %w", z.Name, err)
	}
	return nil
}

type zoneHandler struct {
	zone  *Zone
	limit *limiter

	mu   sync.Mutex
	slip bool
}

// ServeDNS answers one question.
func (h *zoneHandler) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	from, udp := peerOf(w)
	reply := h.zone.reply(m, udp)
	if udp && !h.limit.allow(from, 1, time.Now()) {
		// As response rate limiting does: half get nothing, half are told to
		// come over TCP, where nobody can forge their address.
		h.mu.Lock()
		h.slip = !h.slip
		silent := h.slip
		h.mu.Unlock()
		if silent {
			return
		}
		reply.Answer, reply.Ns, reply.Truncated = nil, nil, true
	}
	_ = w.WriteMsg(reply) // whoever does not get it asks again
}

func peerOf(w dns.ResponseWriter) (netip.Addr, bool) {
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	a, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	return a.Addr(), udp
}

// reply makes the whole reply to a message, cut to what its way can carry.
func (z *Zone) reply(m *dns.Msg, udp bool) *dns.Msg {
	reply := new(dns.Msg).SetReply(m)
	reply.Compress = true
	size := dns.MinMsgSize
	if opt := m.IsEdns0(); opt != nil {
		size = max(size, min(int(opt.UDPSize()), zoneUDP))
		reply.SetEdns0(zoneUDP, false)
		if opt.Version() != 0 { // RFC 6891 section 6.1.3
			reply.Rcode = dns.RcodeBadVers
			return reply
		}
	}
	if !udp {
		size = dns.MaxMsgSize
	}
	z.fill(reply, m)
	reply.Truncate(size)
	return reply
}

func (z *Zone) fill(reply, m *dns.Msg) {
	switch {
	case m.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
		return
	case len(m.Question) != 1:
		reply.Rcode = dns.RcodeFormatError
		return
	}
	q := m.Question[0]
	switch {
	case q.Qclass != dns.ClassINET || !dns.IsSubDomain(dns.CanonicalName(z.Name.ASCII()), dns.CanonicalName(q.Name)),
		q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		reply.Rcode = dns.RcodeRefused
		return
	}
	reply.Authoritative = true
	records, exists := z.answer(q.Name, q.Qtype)
	reply.Answer = records
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	if len(records) == 0 {
		reply.Ns = []dns.RR{z.soa()} // RFC 2308 section 3
	}
}

// A limitListener accepts no more than so many connections at once; the
// others wait in the backlog.
type limitListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimitListener(l net.Listener, n int) *limitListener {
	return &limitListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, free: func() { <-l.slots }}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *limitedConn) Close() error {
	defer c.once.Do(c.free)
	return c.Conn.Close()
}
