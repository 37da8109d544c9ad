package resolve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAMEs; longer ones are loops or mistakes.
const maxAliases = 8

// ask puts a question to the servers and follows aliases that their answer
// leaves open, as an authoritative server's does when the alias leaves its zone.
func (r *Resolver) ask(ctx context.Context, q question) answer {
	name, ttl := q.name, maxTTL
	for range maxAliases {
		reply, s, err := r.askServers(ctx, question{name, q.kind})
		if err != nil {
			return answer{err: q.fail(s, err.kind, err.cause), ttl: min(ttl, failureTTL)}
		}
		found, next := read(reply, name, q.kind)
		ttl = min(ttl, found.ttl)
		switch {
		case found.err != nil:
			return answer{err: q.fail(s, found.err, found.why()), ttl: ttl}
		case next == "":
			return answer{records: found.records, ttl: ttl}
		}
		name = next
	}
	return answer{err: q.fail(nil, ErrServer, errAliases), ttl: failureTTL}
}

var errAliases = errors.New("the chain of aliases does not end")

// why explains an error that was found in a reply, beyond what it is.
func (a answer) why() error {
	if errors.Is(a.err, ErrServer) {
		return errAliases
	}
	return nil
}

func (q question) fail(s *server, kind, cause error) error {
	e := &Error{Name: q.name[:len(q.name)-1], Type: dns.TypeToString[q.kind], Err: kind, Cause: cause}
	if s != nil {
		e.Server = s.addr
	}
	return e
}

// failure is why one server, or all of them, gave no answer.
type failure struct{ kind, cause error }

// askServers tries each server in turn until one gives an answer, and then
// all of them again.
func (r *Resolver) askServers(ctx context.Context, q question) (*dns.Msg, *server, *failure) {
	var last *failure
	var lastServer *server
	for range r.o.Rounds {
		for _, s := range r.inOrder(time.Now()) {
			if ctx.Err() != nil {
				return nil, lastServer, &failure{ErrTimeout, context.Cause(ctx)}
			}
			reply, err := r.askServer(ctx, s, q)
			if err == nil {
				s.worked()
				return reply, s, nil
			}
			if ctx.Err() != nil {
				return nil, s, &failure{ErrTimeout, context.Cause(ctx)}
			}
			if errors.Is(err.kind, ErrTimeout) {
				s.failed(time.Now())
			}
			// A server that said something is better known than one that was silent.
			if last == nil || !errors.Is(err.kind, ErrTimeout) {
				last, lastServer = err, s
			}
		}
	}
	return nil, lastServer, last
}

// askServer gets one server's answer: a reply that is positive, or negative
// with authority.
func (r *Resolver) askServer(ctx context.Context, s *server, q question) (*dns.Msg, *failure) {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(ednsSize, false)
	reply, err := r.exchange(ctx, "udp", s, m)
	if err == nil && reply.Rcode == dns.RcodeFormatError {
		m.Extra = nil // RFC 6891 section 7: a server that does not know EDNS
		reply, err = r.exchange(ctx, "udp", s, m)
	}
	if err == nil && reply.Truncated {
		reply, err = r.exchange(ctx, "tcp", s, m) // RFC 7766 section 5
	}
	switch {
	case err != nil:
		return nil, err
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return nil, &failure{ErrServer, fmt.Errorf("it said %s", dns.RcodeToString[reply.Rcode])}
	case len(reply.Answer) == 0 && !reply.Authoritative && !reply.RecursionAvailable:
		return nil, &failure{ErrServer, errors.New("it neither knows the zone nor asks others (lame)")}
	}
	return reply, nil
}

// read takes the records of a name out of a reply. next is the name that is
// to be asked for in its place, when the reply holds an alias and not what it
// leads to.
func read(reply *dns.Msg, name string, kind uint16) (found answer, next string) {
	found.ttl = maxTTL
	at := name
	for hops := 0; ; hops++ {
		if hops == maxAliases {
			return answer{err: ErrServer, ttl: failureTTL}, ""
		}
		alias := ""
		any := false
		for _, rr := range reply.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != at {
				continue
			}
			if h.Rrtype == kind {
				any = true
				found.ttl = min(found.ttl, seconds(h.Ttl))
				found.records.add(rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				found.ttl = min(found.ttl, seconds(h.Ttl))
				alias = dns.CanonicalName(c.Target)
			}
		}
		if any && !found.records.empty() {
			return found, ""
		}
		if any || alias == "" {
			break
		}
		at = alias
	}
	switch {
	case reply.Rcode == dns.RcodeNameError:
		found.err = ErrNoName
	case at != name && isName(at) && soaOf(reply) == nil:
		return found, at
	default:
		found.err = ErrNoData
	}
	// RFC 2308 section 5: without SOA a negative answer should not be kept.
	ttl := time.Duration(0)
	if soa := soaOf(reply); soa != nil {
		ttl = min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegativeTTL)
	}
	found.ttl = min(found.ttl, ttl)
	return found, ""
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func soaOf(reply *dns.Msg) *dns.SOA {
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}
