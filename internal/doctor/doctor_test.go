package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/machine"
	"postern/internal/problem"
	"postern/internal/resolve"
	"postern/internal/state"
	"postern/mail"
)

// zone is a DNS of few words: a name, an address or "MX name" leads to words.
type zone map[string]string

func (z zone) ask(question, kind string) ([]string, error) {
	switch text, ok := z[question]; {
	case !ok:
		return nil, &resolve.Error{Name: question, Type: kind, Err: resolve.ErrNoName}
	case text == "silence":
		return nil, &resolve.Error{Name: question, Type: kind, Err: resolve.ErrTimeout}
	case text == "null":
		return nil, &resolve.Error{Name: question, Type: kind, Err: resolve.ErrNullMX}
	default:
		return strings.Fields(text), nil
	}
}

func (z zone) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	words, err := z.ask(name, "address")
	var list []netip.Addr
	for _, w := range words {
		list = append(list, netip.MustParseAddr(w))
	}
	return list, err
}

func (z zone) Names(_ context.Context, a netip.Addr) ([]string, error) {
	return z.ask(a.String(), "PTR")
}

func (z zone) Exchangers(_ context.Context, domain string) ([]string, error) {
	return z.ask("MX "+domain, "MX")
}

func (z zone) Validates(context.Context) (bool, error) {
	words, err := z.ask("DNSSEC", "SOA")
	return len(words) > 0, err
}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// healthy are a server and a machine of which nothing is to be said but ok.
func healthy(t *testing.T) (Server, Machine) {
	t.Helper()
	s := Server{
		Hostname:  domain(t, "mx.ours.example"),
		Listeners: []Listener{{Name: "mx", Role: "mx", Addrs: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.10:25")}}},
		Trusted:   []netip.Prefix{netip.MustParsePrefix("10.1.2.40/32")},
		Domains:   []mail.Domain{domain(t, "ours.example")},
		State:     "/var/lib/postern", Reserve: 1 << 30, ReservePercent: 10,
		Certificate: certificate(t, "mx.ours.example", 60*24*time.Hour),
	}
	m := Machine{
		Now: now, Judge: func(string, int) error { return nil }, Landlock: func() int { return portsVersion },
		Facts: machine.Facts{
			Gateways:  []netip.Addr{netip.MustParseAddr("203.0.113.1")},
			Own:       []machine.Interface{{Name: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")}, {Name: "eth0", Prefix: netip.MustParsePrefix("203.0.113.10/24")}},
			Resolvers: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
			Ports:     machine.Ports{First: 1024, Capability: true},
		},
		DNS: zone{
			"mx.ours.example": "203.0.113.10", "203.0.113.10": "mx.ours.example", "MX ours.example": "mx.ours.example",
			"DNSSEC": "yes", "MX far.example": "mx.far.example", "mx.far.example": "198.51.100.25",
		},
		Disk:  func(string) (machine.Space, error) { return machine.Space{Free: 50 << 30, Total: 100 << 30}, nil },
		Clock: func() (machine.Clock, error) { return machine.Clock{Synchronised: true}, nil },
		Listen: func(context.Context, string, string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		},
		Dial: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			there.Close()
			return here, nil
		},
	}
	return s, m
}

func domain(t *testing.T, name string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func certificate(t *testing.T, name string, left time.Duration) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: now.Add(left - 90*24*time.Hour), NotAfter: now.Add(left)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// file makes a file of a mode.
func file(t *testing.T, mode os.FileMode, secret bool) File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return File{Path: path, At: problem.Pos{File: "postern.hcl", Line: 7}, Secret: secret}
}

func TestAHealthyServerHasNothingToMend(t *testing.T) {
	s, m := healthy(t)
	found := Run(t.Context(), s, m)
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.Check] = true
		if f.Level > Note || f.Level == Note && !strings.Contains(f.What, "firewall") {
			t.Errorf("%s %s: %s", f.Level, f.Check, f.What)
		}
	}
	for _, name := range []string{"listener", "reach", "trust", "hostname", "mx", "resolver", "certificate", "disk", "clock", "state", "sandbox"} {
		if !seen[name] {
			t.Errorf("check %s said nothing", name)
		}
	}
}

// Each case spoils one thing, and one check must say so.
func TestRun(t *testing.T) {
	dns := func(question, answer string) func(*Server, *Machine) {
		return func(_ *Server, m *Machine) {
			z := zone{}
			for k, v := range m.DNS.(zone) { //nolint:errcheck // healthy made it
				z[k] = v
			}
			if z[question] = answer; answer == "" {
				delete(z, question)
			}
			m.DNS = z
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(*Server, *Machine)
		check string
		level Level
		says  string
	}{
		{"port 25 is held", func(_ *Server, m *Machine) {
			m.Sockets = []machine.Socket{{Addr: netip.MustParseAddrPort("0.0.0.0:25"), Process: "master", PID: 812}}
		}, "listener", Problem, "held by master (pid 812"},
		{"port 25 is held by whom we may not see", func(_ *Server, m *Machine) {
			m.Sockets = []machine.Socket{{Addr: netip.MustParseAddrPort("0.0.0.0:25")}}
		}, "listener", Problem, "another user"},
		{"postern runs", func(_ *Server, m *Machine) {
			m.Sockets = []machine.Socket{{Addr: netip.MustParseAddrPort("0.0.0.0:25"), Process: "postern", PID: 9}}
		}, "listener", OK, "listens there already"},
		{"no capability", func(_ *Server, m *Machine) { m.Facts.Ports.Capability = false }, "listener", Problem, "capability"},
		{"an address of another machine", func(_ *Server, m *Machine) {
			m.Listen = func(context.Context, string, string) (net.Listener, error) {
				return nil, errors.New("cannot assign requested address")
			}
		}, "listener", Problem, "cannot assign"},
		{"loopback only", func(s *Server, _ *Machine) {
			s.Listeners[0].Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:25")}
		}, "reach", Warning, "loopback only"},
		{"behind address translation", func(_ *Server, m *Machine) {
			m.Facts.Own[1].Prefix = netip.MustParsePrefix("192.168.1.5/24")
		}, "reach", Note, "no public address"},
		{"in a container", func(_ *Server, m *Machine) { m.Facts.Container = "docker" }, "reach", Note, "container (docker)"},
		{"the gateway is trusted", func(s *Server, _ *Machine) {
			s.Trusted = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/29")}
		}, "trust", Problem, "default gateway 203.0.113.1"},
		{"others may write the state folder", func(_ *Server, m *Machine) {
			m.Judge = func(dir string, _ int) error {
				return problem.At(problem.Pos{File: dir}, "others may write it (mode 0777)", "chmod go-w "+dir)
			}
		}, "state", Problem, "others may write it"},
		{"a key that the relay's user may not read", func(s *Server, _ *Machine) {
			s.Files, s.Reader, s.ReaderName = []File{file(t, 0o600, true)}, state.Reader{User: os.Geteuid() + 4711}, "postern"
		}, "files", Problem, "user postern, who may not read"},
		{"a key that all may read", func(s *Server, _ *Machine) {
			s.Files, s.Reader = []File{file(t, 0o644, true)}, state.Reader{User: os.Geteuid()}
		}, "files", Warning, "may read it (mode 0644)"},
		{"a login that all may write", func(s *Server, _ *Machine) {
			s.Files, s.Reader = []File{file(t, 0o666, true)}, state.Reader{User: os.Geteuid()}
		}, "files", Problem, "may write it (mode 0666)"},
		{"a certificate that all may read", func(s *Server, _ *Machine) {
			s.Files, s.Reader, s.ReaderName = []File{file(t, 0o644, false)}, state.Reader{User: os.Geteuid()}, "postern"
		}, "files", OK, "user postern can read"},
		{"a kernel without Landlock", func(_ *Server, m *Machine) { m.Landlock = func() int { return 0 } }, "sandbox", Warning, "no Landlock"},
		{"a kernel whose Landlock knows no ports", func(_ *Server, m *Machine) { m.Landlock = func() int { return 3 } }, "sandbox", Note, "not from ports"},
		{"a bridge is trusted", func(s *Server, m *Machine) {
			s.Trusted = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}
			m.Facts.Own = append(m.Facts.Own, machine.Interface{Name: "docker0", Prefix: netip.MustParsePrefix("172.17.0.1/16"), Bridge: true})
		}, "trust", Problem, "bridge of containers 172.17.0.1"},
		{"loopback is trusted beside a forwarder", func(s *Server, m *Machine) {
			s.Trusted, m.Facts.Forwarders = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"docker-proxy"}
		}, "trust", Warning, "docker-proxy runs here"},
		{"hostname is localhost", func(s *Server, _ *Machine) { s.Hostname = domain(t, "localhost") }, "hostname", Problem, "no full name"},
		{"hostname is none", func(s *Server, _ *Machine) { s.Hostname = mail.Domain{} }, "hostname", Problem, "no hostname"},
		{"hostname has no address", dns("mx.ours.example", ""), "hostname", Problem, "has no address"},
		{"hostname leads elsewhere", dns("mx.ours.example", "198.51.100.9"), "hostname", Warning, "no address of this machine"},
		{"no PTR record", dns("203.0.113.10", ""), "hostname", Problem, "no PTR record"},
		{"another PTR record", dns("203.0.113.10", "host10.provider.example"), "hostname", Warning, "host10.provider.example"},
		{"a PTR record that does not lead back", dns("203.0.113.10", "host10.provider.example"), "reverse", Problem, "does not lead back"},
		{"the PTR record is not known", dns("203.0.113.10", "silence"), "hostname", Note, "not decided"},
		{"no MX", dns("MX ours.example", ""), "mx", Problem, "nobody can send"},
		{"null MX", dns("MX ours.example", "null"), "mx", Problem, "null MX"},
		{"MX elsewhere", dns("MX ours.example", "mx.far.example"), "mx", Warning, "none of which is this machine"},
		{"the resolver is silent", dns("mx.ours.example", "silence"), "resolver", Problem, "does not answer"},
		{"the resolver does not validate", dns("DNSSEC", " "), "resolver", Note, "does not validate"},
		{"the resolver is public", func(_ *Server, m *Machine) {
			m.Facts.Resolvers = []netip.Addr{netip.MustParseAddr("8.8.8.8")}
		}, "resolver", Warning, "8.8.8.8 is public"},
		{"no certificate", func(s *Server, _ *Machine) { s.Certificate = nil }, "certificate", Note, "no certificate"},
		{"expired", func(s *Server, _ *Machine) { s.Certificate = certificate(t, "mx.ours.example", -time.Hour) }, "certificate", Problem, "expired on 24 Nov 2026 11:00 UTC"},
		{"soon expired", func(s *Server, _ *Machine) { s.Certificate = certificate(t, "mx.ours.example", 72*time.Hour) }, "certificate", Warning, "in 3 days"},
		{"not yet valid", func(s *Server, _ *Machine) {
			s.Certificate = certificate(t, "mx.ours.example", 91*24*time.Hour)
		}, "certificate", Problem, "valid only from"},
		{"for another name", func(s *Server, _ *Machine) { s.Certificate = certificate(t, "www.ours.example", 60*24*time.Hour) }, "certificate", Problem, "does not cover mx.ours.example"},
		{"with another key", func(s *Server, _ *Machine) {
			s.Certificate.PrivateKey = certificate(t, "mx.ours.example", time.Hour).PrivateKey
		}, "certificate", Problem, "key does not belong"},
		{"disk below the reserve", func(_ *Server, m *Machine) {
			m.Disk = func(string) (machine.Space, error) { return machine.Space{Free: 5 << 30, Total: 100 << 30}, nil }
		}, "disk", Problem, "5.0 GiB free of 100.0 GiB where /var/lib/postern lies; 10.0 GiB"},
		{"disk near the reserve", func(_ *Server, m *Machine) {
			m.Disk = func(string) (machine.Space, error) { return machine.Space{Free: 15 << 30, Total: 100 << 30}, nil }
		}, "disk", Warning, "15.0 GiB"},
		{"little memory", func(_ *Server, m *Machine) {
			m.Means = machine.Means{Memory: 128 << 20, Group: true, Descriptors: 65536}
		}, "means", Warning, "128.0 MiB of memory of the control group carry few connections"},
		{"enough memory", func(_ *Server, m *Machine) {
			m.Means = machine.Means{Memory: 256 << 20, Descriptors: 65536}
		}, "means", OK, "256.0 MiB of memory of this machine"},
		{"few descriptors", func(_ *Server, m *Machine) {
			m.Means = machine.Means{Descriptors: 256}
		}, "means", Warning, "a process may have 256 descriptors"},
		{"nobody keeps the clock", func(_ *Server, m *Machine) {
			m.Clock = func() (machine.Clock, error) { return machine.Clock{}, nil }
		}, "clock", Warning, "nothing keeps the clock"},
		{"the clock is far off", func(_ *Server, m *Machine) {
			m.Clock = func() (machine.Clock, error) { return machine.Clock{Synchronised: true, Error: 3 * time.Second}, nil }
		}, "clock", Warning, "off by 3s"},
		{"mail can leave", func(s *Server, _ *Machine) { s.Outgoing = "far.example" }, "outgoing", OK, "198.51.100.25:25"},
		{"the provider blocks port 25", func(s *Server, m *Machine) {
			s.Outgoing = "far.example"
			m.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("i/o timeout") }
		}, "outgoing", Problem, "port 25 of mx.far.example is not reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m := healthy(t)
			c.spoil(&s, &m)
			found := Run(t.Context(), s, m)
			for _, f := range found {
				if f.Check == c.check && f.Level == c.level && strings.Contains(f.What, c.says) {
					if f.Level >= Warning && f.Do == "" {
						t.Errorf("%s: what to do is missing: %s", c.check, f.What)
					}
					return
				}
			}
			t.Errorf("want %s of %s saying %q, found: %s", c.level, c.check, c.says, inWords(found))
		})
	}
}

func TestThisMachineIsLookedAt(t *testing.T) {
	r, err := resolve.New(resolve.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := ThisMachine(r)
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	held := netip.MustParseAddrPort(l.Addr().String())
	s := Server{Listeners: []Listener{{Name: "mx", Role: "mx", Addrs: []netip.AddrPort{held}}}}
	if f := checkListeners(t.Context(), s, m); len(f) != 1 || f[0].Level != Problem {
		t.Errorf("a port that is held since the sockets were read: %s", inWords(f))
	}
}

func TestWriteText(t *testing.T) {
	found := judge(t, "mynetworks = 127.0.0.0/8 0.0.0.0/0\n", "", nil)
	found = append([]Finding{{Check: "clock", Level: OK, What: "the clock is kept right\x1b[2J, to about 1ms"}}, found...)
	var b bytes.Buffer
	if err := WriteText(&b, found); err != nil {
		t.Fatal(err)
	}
	want := `problem  mynetworks   /etc/postfix/main.cf:8: mynetworks holds 0.0.0.0/0: all
         strangers relay
         forms  plain local-sender pct-domain backup-mx null (and ` + strconv.Itoa(len(found[1].Forms)-5) + ` more)
         do     postconf -e 'mynetworks = 127.0.0.0/8'
                postfix reload
ok       clock        the clock is kept right` + "\uFFFD" + `[2J, to about 1ms
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		if len([]rune(line)) > width+1 {
			t.Errorf("a line of more than %d columns: %q", width, line)
		}
	}
}

func TestFindingAsJSON(t *testing.T) {
	f := judge(t, "smtpd_authorized_xclient_hosts = 0.0.0.0/0\n", "", nil)
	got, err := json.Marshal(f)
	const want = `[{"check":"smtpd_authorized_xclient_hosts","level":"problem","at":"/etc/postfix/main.cf:8",` +
		`"what":"all strangers may say with XCLIENT that they are 127.0.0.1, or logged in",` +
		`"do":"postconf -e 'smtpd_authorized_xclient_hosts ='\npostfix reload","forms":["xclient","xclient-name"]}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}
