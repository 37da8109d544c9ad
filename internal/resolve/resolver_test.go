package resolve_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/resolve"
	"postern/internal/resolve/dnstest"
)

const zone = `
$ORIGIN example.
$TTL 300
@            SOA   ns.example. hostmaster.example. 1 3600 600 86400 60
@            MX    20 backup
@            MX    10 Mail.Example.
mail         A     192.0.2.1
mail         A     192.0.2.2
mail         AAAA  2001:db8::1
backup       A     192.0.2.3
alias        CNAME mail
loop         CNAME loop2
loop2        CNAME loop
out          CNAME mail.elsewhere.test.
mail.elsewhere.test. A 198.51.100.1
null         MX    0 .
half         MX    0 .
half         MX    10 mail
odd          MX    10 bad\032host.example.
txt          TXT   "v=spf1 " "-all"
*.wild       A     192.0.2.9
1.2.0.192.in-addr.arpa. PTR mail.example.
1.2.0.192.in-addr.arpa. PTR <script>.example.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.
`

var two = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("192.0.2.54:53")}

func newResolver(t *testing.T, o resolve.Options) *resolve.Resolver {
	t.Helper()
	r, err := resolve.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func addrs(texts ...string) []netip.Addr {
	list := make([]netip.Addr, len(texts))
	for i, s := range texts {
		list[i] = netip.MustParseAddr(s)
	}
	return list
}

func TestLookups(t *testing.T) {
	r := newResolver(t, resolve.Options{Servers: two[:1], Dial: dnstest.New(t, zone).Dial})
	ctx := t.Context()
	for _, c := range []struct {
		name string
		got  func() (any, error)
		want any
		err  error
	}{
		{
			"MX, best first", func() (any, error) { return r.MX(ctx, "example") },
			[]resolve.MX{{Preference: 10, Host: "mail.example"}, {Preference: 20, Host: "backup.example"}},
			nil,
		},
		{
			"MX in upper case with a dot", func() (any, error) { return r.MX(ctx, "EXAMPLE.") },
			[]resolve.MX{{Preference: 10, Host: "mail.example"}, {Preference: 20, Host: "backup.example"}},
			nil,
		},
		{"null MX", func() (any, error) { return r.MX(ctx, "null.example") }, nil, resolve.ErrNullMX},
		{
			"null MX beside another", func() (any, error) { return r.MX(ctx, "half.example") },
			[]resolve.MX{{Preference: 10, Host: "mail.example"}},
			nil,
		},
		{"an MX that is no host name", func() (any, error) { return r.MX(ctx, "odd.example") }, nil, resolve.ErrNoData},
		{"exchangers", func() (any, error) { return r.Exchangers(ctx, "example") }, []string{"mail.example", "backup.example"}, nil},
		{"no MX: the domain itself", func() (any, error) { return r.Exchangers(ctx, "mail.example") }, []string{"mail.example"}, nil},
		{"no such domain has no exchangers", func() (any, error) { return r.Exchangers(ctx, "nosuch.example") }, nil, resolve.ErrNoName},
		{"a null MX is no implicit MX", func() (any, error) { return r.Exchangers(ctx, "null.example") }, nil, resolve.ErrNullMX},
		{"A", func() (any, error) { return r.A(ctx, "mail.example") }, addrs("192.0.2.1", "192.0.2.2"), nil},
		{"both families", func() (any, error) { return r.Addresses(ctx, "mail.example") }, addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), nil},
		{"one family", func() (any, error) { return r.Addresses(ctx, "backup.example") }, addrs("192.0.2.3"), nil},
		{"no family", func() (any, error) { return r.Addresses(ctx, "txt.example") }, nil, resolve.ErrNoData},
		{"no such name", func() (any, error) { return r.Addresses(ctx, "nosuch.example") }, nil, resolve.ErrNoName},
		{"an address as it is", func() (any, error) { return r.Addresses(ctx, "[2001:db8::7]") }, addrs("2001:db8::7"), nil},
		{"localhost", func() (any, error) { return r.Addresses(ctx, "localhost") }, addrs("127.0.0.1", "::1"), nil},
		{"through an alias", func() (any, error) { return r.A(ctx, "alias.example") }, addrs("192.0.2.1", "192.0.2.2"), nil},
		{"an alias that leads nowhere", func() (any, error) { return r.A(ctx, "loop.example") }, nil, resolve.ErrServer},
		{"a wildcard", func() (any, error) { return r.A(ctx, "any.wild.example") }, addrs("192.0.2.9"), nil},
		{"TXT, its strings joined", func() (any, error) { return r.TXT(ctx, "txt.example") }, []string{"v=spf1 -all"}, nil},
		{"PTR, only what is a host name", func() (any, error) { return r.Names(ctx, netip.MustParseAddr("::ffff:192.0.2.1")) }, []string{"mail.example"}, nil},
		{"PTR of IPv6", func() (any, error) { return r.Names(ctx, netip.MustParseAddr("2001:db8::1")) }, []string{"six.example"}, nil},
		{"no name at all", func() (any, error) { return r.A(ctx, "a b.example") }, nil, resolve.ErrName},
		{"an empty label", func() (any, error) { return r.A(ctx, "a..example") }, nil, resolve.ErrName},
		{"nothing", func() (any, error) { return r.A(ctx, "") }, nil, resolve.ErrName},
	} {
		got, err := c.got()
		if c.err != nil {
			if !errors.Is(err, c.err) {
				t.Errorf("%s: %v, want %v", c.name, err, c.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func TestServersThatFail(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  dnstest.Fault // the second server is well
		second dnstest.Fault
		err    error
		took   time.Duration
		asked  string // of the first server
	}{
		{"SERVFAIL", dnstest.Fault{ServFail: true}, dnstest.Fault{}, nil, 0, "udp A mail.example"},
		{"REFUSED", dnstest.Fault{Refused: true}, dnstest.Fault{}, nil, 0, "udp A mail.example"},
		{"lame", dnstest.Fault{Lame: true}, dnstest.Fault{}, nil, 0, "udp A mail.example"},
		{"silent", dnstest.Fault{Silent: true}, dnstest.Fault{}, nil, 2 * time.Second, "udp A mail.example"},
		{"slow, but in time", dnstest.Fault{Delay: time.Second}, dnstest.Fault{}, nil, time.Second, "udp A mail.example"},
		{"truncated: asked again over TCP", dnstest.Fault{Truncate: true}, dnstest.Fault{Silent: true}, nil, 0, "udp A mail.example,tcp A mail.example"},
		{"truncated, and TCP is shut", dnstest.Fault{Truncate: true, NoTCP: true}, dnstest.Fault{}, nil, 0, "udp A mail.example,tcp A mail.example"},
		{"no EDNS", dnstest.Fault{NoEDNS: true}, dnstest.Fault{Silent: true}, nil, 0, "udp A mail.example,udp A mail.example"},
		{"forged answers come first", dnstest.Fault{Mismatch: true}, dnstest.Fault{Silent: true}, nil, 0, "udp A mail.example"},
		{"both SERVFAIL", dnstest.Fault{ServFail: true}, dnstest.Fault{ServFail: true}, resolve.ErrServer, 0, "udp A mail.example,udp A mail.example"},
		{"both silent", dnstest.Fault{Silent: true}, dnstest.Fault{Silent: true}, resolve.ErrTimeout, 8 * time.Second, "udp A mail.example,udp A mail.example"},
		{"silent and SERVFAIL: the one that spoke is named", dnstest.Fault{Silent: true}, dnstest.Fault{ServFail: true}, resolve.ErrServer, 4 * time.Second, "udp A mail.example,udp A mail.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := dnstest.New(t, zone), dnstest.New(t, zone)
				first.Break("mail.example", c.first)
				second.Break("mail.example", c.second)
				r := newResolver(t, resolve.Options{Servers: two, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					if address == two[0].String() {
						return first.Dial(ctx, network, address)
					}
					return second.Dial(ctx, network, address)
				}})
				start := time.Now()
				got, err := r.A(t.Context(), "mail.example")
				if !errors.Is(err, c.err) || c.err == nil && (err != nil || len(got) != 2) {
					t.Errorf("A = %v, %v, want two addresses or %v", got, err, c.err)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				if log := strings.Join(first.Log(), ","); log != c.asked {
					t.Errorf("the first server was asked %q, want %q", log, c.asked)
				}
			})
		})
	}
}

func TestASilentServerIsAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := dnstest.New(t, zone), dnstest.New(t, zone)
		first.Break("", dnstest.Fault{Silent: true})
		r := newResolver(t, resolve.Options{Servers: two, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == two[0].String() {
				return first.Dial(ctx, network, address)
			}
			return second.Dial(ctx, network, address)
		}})
		took := func(name string) time.Duration {
			start := time.Now()
			if _, err := r.A(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		if d := took("mail.example"); d != 2*time.Second {
			t.Errorf("the first question took %v, want one timeout of 2s", d)
		}
		if d := took("backup.example"); d != 0 {
			t.Errorf("the second question took %v: the silent server was asked first again", d)
		}
		time.Sleep(2 * time.Minute)
		first.Break("", dnstest.Fault{})
		if d := took("alias.example"); d != 0 || len(first.Log()) != 2 {
			t.Errorf("after its rest the server was asked %q, want it asked again", first.Log())
		}
	})
}

func TestAddressesSaysWhenAFamilyIsUnknown(t *testing.T) {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	r := newResolver(t, resolve.Options{Servers: two, Dial: dial})
	if list, err := r.Addresses(t.Context(), "mail.example"); !errors.Is(err, resolve.ErrTimeout) || len(list) != 0 {
		t.Errorf("Addresses without a server = %v, %v, want %v", list, err, resolve.ErrTimeout)
	}
}

func TestCache(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault dnstest.Fault
		holds time.Duration // how long one answer serves
	}{
		{"mail.example", dnstest.Fault{}, 300 * time.Second},                             // its TTL
		{"nosuch.example", dnstest.Fault{}, 60 * time.Second},                            // RFC 2308: the SOA's minimum
		{"txt.example", dnstest.Fault{}, 60 * time.Second},                               // no data
		{"mail.example", dnstest.Fault{Truncate: true, ServFail: true}, 2 * time.Second}, // RFC 9520
	} {
		synctest.Test(t, func(t *testing.T) {
			s := dnstest.New(t, zone)
			s.Break(c.name, c.fault)
			r := newResolver(t, resolve.Options{Servers: two[:1], Rounds: 1, Dial: s.Dial})
			ask := func() int {
				_, _ = r.A(t.Context(), c.name)
				return len(s.Log())
			}
			ask()
			time.Sleep(c.holds - time.Nanosecond)
			if n := ask(); n != 1 {
				t.Errorf("%s %+v: asked %d times within its time, want 1", c.name, c.fault, n)
			}
			time.Sleep(time.Nanosecond)
			if n := ask(); n != 2 {
				t.Errorf("%s %+v: asked %d times after %v, want 2", c.name, c.fault, n, c.holds)
			}
		})
	}
}

func TestNegativeAnswerWithoutSOAIsNotKept(t *testing.T) {
	s := dnstest.New(t, zone)
	s.Break("nosuch.example", dnstest.Fault{NoSOA: true})
	r := newResolver(t, resolve.Options{Servers: two[:1], Dial: s.Dial})
	for range 2 {
		if _, err := r.A(t.Context(), "nosuch.example"); !errors.Is(err, resolve.ErrNoName) {
			t.Fatal(err)
		}
	}
	if n := len(s.Log()); n != 2 {
		t.Errorf("asked %d times, want 2 (RFC 2308 section 5)", n)
	}
}

func TestAliasThatTheServerLeavesOpen(t *testing.T) {
	s := dnstest.New(t, zone)
	s.Break("out.example", dnstest.Fault{OnlyFirst: true})
	r := newResolver(t, resolve.Options{Servers: two[:1], Dial: s.Dial})
	got, err := r.A(t.Context(), "out.example")
	if err != nil || !reflect.DeepEqual(got, addrs("198.51.100.1")) {
		t.Errorf("A = %v, %v, want 198.51.100.1; asked %q", got, err, s.Log())
	}
}

func TestAliasOfANameWithoutSuchRecords(t *testing.T) {
	s := dnstest.New(t, zone+"empty.example. CNAME txt.example.\n")
	r := newResolver(t, resolve.Options{Servers: two[:1], Dial: s.Dial})
	if _, err := r.A(t.Context(), "empty.example"); !errors.Is(err, resolve.ErrNoData) || len(s.Log()) != 1 {
		t.Errorf("A = %v after %q, want %v: the server has answered in full", err, s.Log(), resolve.ErrNoData)
	}
}

func TestCacheIsBounded(t *testing.T) {
	s := dnstest.New(t, zone)
	r := newResolver(t, resolve.Options{Servers: two[:1], Entries: 2, Dial: s.Dial})
	for _, name := range []string{"a.wild.example", "b.wild.example", "a.wild.example", "c.wild.example", "a.wild.example", "b.wild.example"} {
		if _, err := r.A(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	// c pushed b out, because a was used later.
	if got, want := strings.Join(s.Log(), ","), "udp A a.wild.example,udp A b.wild.example,udp A c.wild.example,udp A b.wild.example"; got != want {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func TestOneQuestionIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(t, zone)
		s.Break("", dnstest.Fault{Delay: time.Second})
		r := newResolver(t, resolve.Options{Servers: two[:1], Dial: s.Dial})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got, err := r.A(t.Context(), "mail.example"); err != nil || len(got) != 2 {
					t.Errorf("A = %v, %v", got, err)
				}
			})
		}
		wg.Wait()
		if n := len(s.Log()); n != 1 {
			t.Errorf("50 callers asked %d times, want 1", n)
		}
		// Also when the answer may not be kept.
		s.Break("", dnstest.Fault{Delay: time.Second, NoSOA: true})
		for range 50 {
			wg.Go(func() {
				if _, err := r.A(t.Context(), "nosuch.example"); !errors.Is(err, resolve.ErrNoName) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(s.Log()); n != 2 {
			t.Errorf("50 callers asked %d times for what does not exist, want 1", n-1)
		}
	})
}

func TestTheCallerWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dnstest.New(t, zone)
		s.Break("", dnstest.Fault{Delay: time.Second})
		r := newResolver(t, resolve.Options{Servers: two[:1], Dial: s.Dial})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.A(ctx, "mail.example"); !errors.Is(err, resolve.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the caller with half a second: %v", err)
			}
		})
		synctest.Wait()
		if got, err := r.A(t.Context(), "mail.example"); err != nil || len(got) != 2 {
			t.Errorf("the patient caller: %v, %v", got, err)
		}
		wg.Wait()
	})
}

func TestOverRealSockets(t *testing.T) {
	s := dnstest.New(t, zone)
	s.Break("txt.example", dnstest.Fault{Truncate: true})
	s.Break("mail.example", dnstest.Fault{Mismatch: true})
	r := newResolver(t, resolve.Options{Servers: []netip.AddrPort{s.Listen()}})
	if got, err := r.TXT(t.Context(), "txt.example"); err != nil || len(got) != 1 {
		t.Errorf("TXT through TCP = %q, %v", got, err)
	}
	if got, err := r.Addresses(t.Context(), "mail.example"); err != nil || len(got) != 3 {
		t.Errorf("Addresses behind forged answers = %v, %v", got, err)
	}
	if log := strings.Join(s.Log(), ","); !strings.Contains(log, "udp TXT txt.example,tcp TXT txt.example") {
		t.Errorf("asked %q, want UDP and then TCP", log)
	}
}

func TestErrorSaysWhatAndWhere(t *testing.T) {
	r := newResolver(t, resolve.Options{Servers: two[:1], Dial: dnstest.New(t, zone).Dial})
	_, err := r.MX(t.Context(), "nosuch.example")
	if want := "MX of nosuch.example: the name does not exist (NXDOMAIN) (asked 192.0.2.53:53)"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestNewNeedsAServer(t *testing.T) {
	for _, servers := range [][]netip.AddrPort{nil, {{}}} {
		if _, err := resolve.New(resolve.Options{Servers: servers}); err == nil {
			t.Errorf("New with servers %v is no error", servers)
		}
	}
}
