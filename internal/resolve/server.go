package resolve

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// ednsSize is the greatest answer over UDP that we ask for: it fits into one
// packet on every usual path (DNS flag day 2020; RFC 9715 section 3.2).
const ednsSize = 1232

// maxRest is how long a server that was silent is asked last.
const maxRest = time.Minute

// A server is one that we ask, and how it did.
type server struct {
	addr netip.AddrPort

	mu       sync.Mutex
	failures int       // in a row
	rests    time.Time // until then it is asked last
}

func (s *server) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures, s.rests = 0, time.Time{}
}

func (s *server) failed(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = min(s.failures+1, 8)
	s.rests = now.Add(min(time.Second<<s.failures, maxRest))
}

func (s *server) resting(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.rests)
}

// inOrder returns the servers as they were named, those that were silent
// lately behind the others: with two views of the DNS the first is the one
// that is meant.
func (r *Resolver) inOrder(now time.Time) []*server {
	var awake, asleep []*server
	for _, s := range r.servers {
		if s.resting(now) {
			asleep = append(asleep, s)
		} else {
			awake = append(awake, s)
		}
	}
	return slices.Concat(awake, asleep)
}

// exchange sends m over a connection of its own, so that each question has
// its own source port (RFC 5452 section 9.2), and reads the reply to it.
func (r *Resolver) exchange(ctx context.Context, network string, s *server, m *dns.Msg) (*dns.Msg, *failure) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.Timeout, ErrTimeout)
	defer cancel()
	conn, err := r.o.Dial(ctx, network, s.addr.String())
	if err != nil {
		return nil, asFailure(ctx, err)
	}
	defer conn.Close()
	// Closing tells silence from an impatient caller without a race: a deadline
	// on the connection could pass just before the one of ctx.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	m.Id = dns.Id()
	co := &dns.Conn{Conn: conn, UDPSize: ednsSize}
	if err := co.WriteMsg(m); err != nil {
		return nil, asFailure(ctx, err)
	}
	for {
		reply, err := co.ReadMsg()
		// A server may cut a long answer anywhere; what counts then is that it did.
		whole := err == nil || reply != nil && reply.Truncated
		var ne net.Error
		switch {
		case whole && answers(reply, m):
			return reply, nil
		case network != "udp" && err == nil:
			return nil, &failure{ErrServer, errors.New("it answered another question")}
		case network != "udp" || ctx.Err() != nil || errors.As(err, &ne) || errors.Is(err, io.EOF):
			return nil, asFailure(ctx, err)
		}
		// Over UDP anybody may send us something: RFC 5452 section 9.1 has us
		// wait on for the true answer.
	}
}

func answers(reply, m *dns.Msg) bool {
	return reply.Response && reply.Id == m.Id && len(reply.Question) == 1 &&
		reply.Question[0].Qtype == m.Question[0].Qtype && reply.Question[0].Qclass == m.Question[0].Qclass &&
		strings.EqualFold(reply.Question[0].Name, m.Question[0].Name)
}

// asFailure tells silence from other trouble with a server. A refused
// connection or a lost route is as good as silence: it may work again later.
func asFailure(ctx context.Context, err error) *failure {
	var ne net.Error
	var op *net.OpError
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return &failure{ErrTimeout, nil}
	}
	if errors.As(err, &op) {
		return &failure{ErrTimeout, err}
	}
	return &failure{ErrServer, err}
}
