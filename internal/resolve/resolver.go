package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Options say whom to ask and how patiently. Zero fields have defaults, but
// there must be a server.
type Options struct {
	Servers []netip.AddrPort        // the first that works is asked
	Hosts   map[string][]netip.Addr // names in lower case that are not asked for, as in /etc/hosts
	Timeout time.Duration           // for one server to answer one question; 2 s
	Rounds  int                     // how often each server is tried; 2
	Entries int                     // answers kept at once; 4096

	// Dial reaches a server over "udp" or "tcp"; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Resolver asks the DNS. Make one with New or System.
type Resolver struct {
	o       Options
	servers []*server
	cache   *cache

	mu      sync.Mutex
	flights map[question]*flight
}

// An MX is one mail exchanger of a domain.
type MX struct {
	Preference uint16
	Host       string // in lower case, without the dot at its end
}

// question is what the cache knows an answer by: a name in lower case with
// the dot at its end, and a type.
type question struct {
	name string
	kind uint16
}

// records are those of one type; the fields of other types are empty.
type records struct {
	mx    []MX
	addrs []netip.Addr
	texts []string // names of PTR, texts of TXT
}

// New makes a Resolver that asks o.Servers.
func New(o Options) (*Resolver, error) {
	if len(o.Servers) == 0 {
		return nil, errors.New("no DNS server to ask; name one, as 192.0.2.53:53")
	}
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	o.Rounds = cmp.Or(o.Rounds, 2)
	o.Entries = cmp.Or(o.Entries, 4096)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	r := &Resolver{o: o, cache: newCache(o.Entries), flights: map[question]*flight{}}
	for _, a := range o.Servers {
		if !a.IsValid() {
			return nil, fmt.Errorf("%q is no DNS server; name one, as 192.0.2.53:53", a)
		}
		r.servers = append(r.servers, &server{addr: a})
	}
	return r, nil
}

// MX returns the mail exchangers of a domain, best first. A null MX (RFC 7505)
// is ErrNullMX; a domain without MX records is ErrNoData.
func (r *Resolver) MX(ctx context.Context, domain string) ([]MX, error) {
	got, err := r.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(got.mx)
	slices.SortStableFunc(list, func(a, b MX) int { return cmp.Compare(a.Preference, b.Preference) })
	if len(list) == 1 && list[0].Host == "" {
		return nil, &Error{Name: domain, Type: "MX", Err: ErrNullMX}
	}
	// A null MX beside others breaks RFC 7505 section 3, and "." is no host.
	list = slices.DeleteFunc(list, func(m MX) bool { return m.Host == "" })
	if len(list) == 0 {
		return nil, &Error{Name: domain, Type: "MX", Err: ErrNoData, Cause: errors.New("its MX records name no host")}
	}
	return list, nil
}

// Exchangers returns the hosts that take a domain's mail, best first. Without
// MX records that is the domain itself (RFC 5321 section 5.1).
func (r *Resolver) Exchangers(ctx context.Context, domain string) ([]string, error) {
	list, err := r.MX(ctx, domain)
	if errors.Is(err, ErrNoData) {
		return []string{strings.TrimSuffix(strings.ToLower(domain), ".")}, nil
	}
	if err != nil {
		return nil, err
	}
	hosts := make([]string, len(list))
	for i, m := range list {
		hosts[i] = m.Host
	}
	return hosts, nil
}

// A returns the IPv4 addresses of a name.
func (r *Resolver) A(ctx context.Context, name string) ([]netip.Addr, error) {
	got, err := r.lookup(ctx, name, dns.TypeA)
	return slices.Clone(got.addrs), err
}

// AAAA returns the IPv6 addresses of a name.
func (r *Resolver) AAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	got, err := r.lookup(ctx, name, dns.TypeAAAA)
	return slices.Clone(got.addrs), err
}

// Addresses returns all addresses of a name, IPv4 first; of an address it
// returns that address. When one family could not be asked for, it returns
// the addresses of the other together with the error: whoever must see every
// address of a host may not take a server's failure for "has no IPv6".
func (r *Resolver) Addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return []netip.Addr{a}, nil
	}
	if list := r.known(name); len(list) > 0 {
		return list, nil
	}
	var v6 []netip.Addr
	var err6 error
	var wg sync.WaitGroup
	wg.Go(func() { v6, err6 = r.AAAA(ctx, name) })
	v4, err4 := r.A(ctx, name)
	wg.Wait()
	all := append(v4, v6...)
	var failed error
	for _, err := range []error{err4, err6} {
		if err != nil && !negative(err) {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil && len(all) == 0 {
		failed = err4
		if errors.Is(err4, ErrNoData) {
			failed = &Error{Name: name, Type: "address", Err: ErrNoData}
		}
	}
	return all, failed
}

// known returns the addresses of names that the DNS is not asked for.
func (r *Resolver) known(name string) []netip.Addr {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if list := r.o.Hosts[name]; len(list) > 0 {
		return slices.Clone(list)
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761 section 6.3
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return nil
}

// Names returns the names that an address's PTR records give it. They are
// claims of who holds the address, nothing more.
func (r *Resolver) Names(ctx context.Context, a netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return nil, &Error{Name: a.String(), Type: "PTR", Err: ErrName}
	}
	got, err := r.lookup(ctx, name, dns.TypePTR)
	return slices.Clone(got.texts), err
}

// TXT returns the texts of a name, the strings of each record joined
// (RFC 7208 section 3.3).
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	got, err := r.lookup(ctx, name, dns.TypeTXT)
	return slices.Clone(got.texts), err
}

// lookup answers from the cache, or asks; callers with the same question at
// the same time share one.
func (r *Resolver) lookup(ctx context.Context, name string, kind uint16) (records, error) {
	q := question{dns.Fqdn(strings.ToLower(name)), kind}
	if !isName(q.name) {
		return records{}, &Error{Name: name, Type: dns.TypeToString[kind], Err: ErrName}
	}
	for {
		if a, ok := r.cache.get(q, time.Now()); ok {
			return a.records, a.err
		}
		f, first := r.join(q)
		if first {
			return r.lead(ctx, q, f)
		}
		select {
		case <-f.done:
			// Who asked for all of us gave up before there was an answer.
			if f.abandoned {
				continue
			}
			return f.answer.records, f.answer.err
		case <-ctx.Done():
			return records{}, &Error{Name: name, Type: dns.TypeToString[kind], Err: ErrTimeout, Cause: context.Cause(ctx)}
		}
	}
}

// A flight is a question that is being asked.
type flight struct {
	done      chan struct{} // closed when the other fields are set
	answer    answer
	abandoned bool
}

func (r *Resolver) join(q question) (f *flight, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flights[q]; ok {
		return f, false
	}
	f = &flight{done: make(chan struct{}), abandoned: true}
	r.flights[q] = f
	return f, true
}

func (r *Resolver) lead(ctx context.Context, q question, f *flight) (records, error) {
	defer func() {
		r.mu.Lock()
		delete(r.flights, q)
		r.mu.Unlock()
		close(f.done)
	}()
	a := r.ask(ctx, q)
	if a.err == nil || negative(a.err) || ctx.Err() == nil {
		f.answer, f.abandoned = a, false
		r.cache.put(q, a, time.Now())
	}
	return a.records, a.err
}

// isName reports whether s, with its final dot, is a name that mail or its
// records use: letters, digits, hyphen, underscore. An escape of the
// presentation format is never one, so no name can bring characters in.
func isName(s string) bool {
	if len(s) < 2 || len(s) > 254 {
		return false
	}
	for label := range strings.SplitSeq(s[:len(s)-1], ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
