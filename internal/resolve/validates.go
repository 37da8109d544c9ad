package resolve

import (
	"context"

	"github.com/miekg/dns"
)

// Validates reports whether the server that is asked first checks DNSSEC: it
// is asked for a signed zone of which nobody can be in doubt, with the AD bit
// set, which asks for the same bit in the reply (RFC 6840 section 5.7). What
// such a bit is worth hangs on the way to the server.
func (r *Resolver) Validates(ctx context.Context) (bool, error) {
	q := question{"org.", dns.TypeSOA}
	var last *failure
	var asked *server
	for _, s := range r.servers {
		m := new(dns.Msg)
		m.SetQuestion(q.name, q.kind)
		m.SetEdns0(ednsSize, false)
		m.AuthenticatedData = true
		reply, err := r.exchange(ctx, "udp", s, m)
		if err == nil && reply.Rcode == dns.RcodeSuccess {
			return reply.AuthenticatedData, nil
		}
		if err == nil {
			err = &failure{kind: ErrServer}
		}
		last, asked = err, s
	}
	return false, q.fail(asked, last.kind, last.cause)
}
