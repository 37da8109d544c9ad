// Package dnstest is a DNS server for tests: it answers from the text of a
// zone, and breaks in the ways in which servers break. It answers in memory
// (Dial), where time may be a bubble's, or on loopback (Listen).
package dnstest

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A Fault is how the server misbehaves for a name. Several may be set.
type Fault struct {
	Delay     time.Duration // before anything else
	Silent    bool          // never answers
	ServFail  bool          // SERVFAIL
	Refused   bool          // REFUSED
	Lame      bool          // a referral elsewhere: neither authority nor recursion
	Truncate  bool          // over UDP: TC and no records
	NoTCP     bool          // over TCP: closes the connection
	NoEDNS    bool          // FORMERR to whoever sends an OPT record
	Mismatch  bool          // first a lie with a wrong id and one to another question, then the truth
	NoSOA     bool          // negative answers without the SOA that says how long they hold
	OnlyFirst bool          // an alias is not followed: the CNAME alone
}

// A Server is a zone with faults. It is safe for concurrent use.
type Server struct {
	tb      testing.TB
	records []dns.RR

	mu     sync.Mutex
	faults map[string]Fault
	log    []string
}

// New makes a server of the records in zone, which is the text of a master
// file (RFC 1035 section 5). A wildcard works as RFC 4592 says. Without a
// fault the server behaves as a recursive one.
func New(tb testing.TB, zone string) *Server {
	tb.Helper()
	s := &Server{tb: tb, faults: map[string]Fault{}}
	p := dns.NewZoneParser(strings.NewReader(zone), ".", "zone")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		s.records = append(s.records, rr)
	}
	if err := p.Err(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Break makes the server misbehave for a name, or for all names when it is "".
func (s *Server) Break(name string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[canonical(name)] = f
}

// Log returns the questions so far, as "udp MX mx.example".
func (s *Server) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// Dial connects to the server in memory, whatever the address.
func (s *Server) Dial(_ context.Context, network, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	s.tb.Cleanup(func() {
		ours.Close()
		<-done
	})
	go func() {
		defer close(done)
		defer ours.Close()
		co := &dns.Conn{Conn: ours}
		for {
			m, err := co.ReadMsg()
			if err != nil {
				return
			}
			for _, reply := range s.answer(network, m) {
				if reply == nil || co.WriteMsg(reply) != nil {
					return
				}
			}
		}
	}()
	return theirs, nil
}

// Listen serves on a port of 127.0.0.1, over UDP and TCP, until the test ends.
func (s *Server) Listen() netip.AddrPort {
	s.tb.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			s.tb.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			_ = pc.Close() // another program has the port over TCP
			continue
		}
		s.serve(&dns.Server{PacketConn: pc}, "udp")
		s.serve(&dns.Server{Listener: l}, "tcp")
		return netip.MustParseAddrPort(pc.LocalAddr().String())
	}
	s.tb.Fatal("no port is free over both UDP and TCP")
	return netip.AddrPort{}
}

func (s *Server) serve(srv *dns.Server, network string) {
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		for _, reply := range s.answer(network, m) {
			if reply == nil {
				_ = w.Close()
				return
			}
			if err := w.WriteMsg(reply); err != nil {
				return
			}
		}
	})
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-done:
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			s.tb.Error(err)
		}
		if err := <-done; err != nil {
			s.tb.Error(err)
		}
	})
}

// answer returns the replies to send; a nil one closes the connection.
func (s *Server) answer(network string, m *dns.Msg) []*dns.Msg {
	q := m.Question[0]
	f := s.seen(network, q)
	time.Sleep(f.Delay)
	reply := new(dns.Msg).SetReply(m)
	reply.RecursionAvailable = true
	switch {
	case f.Silent:
		return nil
	case f.NoTCP && network == "tcp":
		return []*dns.Msg{nil}
	case f.NoEDNS && m.IsEdns0() != nil:
		return []*dns.Msg{new(dns.Msg).SetRcode(m, dns.RcodeFormatError)}
	case f.ServFail:
		return []*dns.Msg{new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)}
	case f.Refused:
		return []*dns.Msg{new(dns.Msg).SetRcode(m, dns.RcodeRefused)}
	case f.Lame:
		reply.RecursionAvailable = false
		reply.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: "elsewhere.example."}}
		return []*dns.Msg{reply}
	case f.Truncate && network == "udp":
		reply.Truncated = true
		return []*dns.Msg{reply}
	}
	s.fill(reply, q, f)
	if !f.Mismatch {
		return []*dns.Msg{reply}
	}
	wrongID, wrongName := reply.Copy(), reply.Copy()
	wrongID.Answer, wrongName.Answer = nil, nil
	wrongID.Rcode, wrongName.Rcode = dns.RcodeNameError, dns.RcodeNameError
	wrongID.Id++
	wrongName.Question[0].Name = "another.example."
	return []*dns.Msg{wrongID, wrongName, reply}
}

func (s *Server) seen(network string, q dns.Question) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := canonical(q.Name)
	s.log = append(s.log, network+" "+dns.TypeToString[q.Qtype]+" "+strings.TrimSuffix(name, "."))
	if f, ok := s.faults[name]; ok {
		return f
	}
	return s.faults[canonical("")]
}

func (s *Server) fill(reply *dns.Msg, q dns.Question, f Fault) {
	name := canonical(q.Name)
	exists := false
	for range 10 {
		owner := s.owner(name)
		exists = owner != ""
		alias := ""
		for _, rr := range s.records {
			h := rr.Header()
			if canonical(h.Name) != owner || h.Rrtype != q.Qtype && h.Rrtype != dns.TypeCNAME {
				continue
			}
			rr = dns.Copy(rr)
			rr.Header().Name = name
			reply.Answer = append(reply.Answer, rr)
			if c, ok := rr.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
				alias = canonical(c.Target)
			}
		}
		if alias == "" || f.OnlyFirst {
			break
		}
		name = alias
	}
	if f.OnlyFirst && len(reply.Answer) > 0 {
		return
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	for _, rr := range reply.Answer {
		if rr.Header().Rrtype == q.Qtype {
			return
		}
	}
	for _, rr := range s.records {
		if rr.Header().Rrtype == dns.TypeSOA && dns.IsSubDomain(rr.Header().Name, name) && !f.NoSOA {
			reply.Ns = append(reply.Ns, rr)
		}
	}
}

// owner returns the name whose records answer for name: itself, or the
// closest wildcard; "" when it does not exist.
func (s *Server) owner(name string) string {
	for _, rr := range s.records {
		if have := canonical(rr.Header().Name); have == name || strings.HasSuffix(have, "."+name) {
			return name
		}
	}
	for parent := name; parent != "."; {
		_, rest, _ := strings.Cut(parent, ".")
		parent = canonical(rest)
		for _, rr := range s.records {
			if canonical(rr.Header().Name) == "*."+parent {
				return "*." + parent
			}
		}
	}
	return ""
}

func canonical(name string) string { return dns.CanonicalName(name) }
