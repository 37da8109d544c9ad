package resolve_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/miekg/dns"

	"postern/internal/resolve"
)

// A server that validates sets the AD bit for whoever asks for it.
func TestValidates(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply func(m, question *dns.Msg)
		want  bool
		err   error
	}{
		{"it validates", func(m, q *dns.Msg) { m.AuthenticatedData = q.AuthenticatedData }, true, nil},
		{"it does not", func(*dns.Msg, *dns.Msg) {}, false, nil},
		{"it fails", func(m, _ *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, false, resolve.ErrServer},
		{"it says nothing", nil, false, resolve.ErrServer},
	} {
		r := newResolver(t, resolve.Options{Servers: two[:1], Dial: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				co := &dns.Conn{Conn: there}
				q, err := co.ReadMsg()
				if err != nil || c.reply == nil {
					return
				}
				m := new(dns.Msg).SetReply(q)
				c.reply(m, q)
				_ = co.WriteMsg(m) // the reader may be gone
			}()
			return here, nil
		}})
		got, err := r.Validates(t.Context())
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v; want %v, %v", c.name, got, err, c.want, c.err)
		}
	}
}
