// Package doctor says what to mend: on the machine that a relay runs on, and
// in the configuration of other servers. It looks and changes nothing, and what
// cannot be known from where it stands it says, instead of guessing.
package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"postern/internal/machine"
	"postern/internal/resolve"
	"postern/internal/sandbox"
	"postern/internal/state"
	"postern/mail"
)

// A Server is the relay as it is configured: what the doctor compares the
// machine with.
type Server struct {
	Hostname       mail.Domain
	Listeners      []Listener
	Trusted        []netip.Prefix   // whoever may relay by address
	Domains        []mail.Domain    // whose mail should come here
	State          string           // the folder of the queue
	Reserve        uint64           // bytes that must stay free there
	ReservePercent int              // and the share of the disk; the greater one counts
	Certificate    *tls.Certificate // nil: none is configured
	Files          []File           // that the configuration names: certificate, key, logins
	Reader         state.Reader     // the user whom the relay goes on as
	ReaderName     string
	Outgoing       string // a domain or host of others whose port 25 is tried; "" tries nothing
}

// A Listener is one door with the addresses that it listens on.
type Listener struct {
	Name  string
	Role  string // as in the configuration: mx, submission, submissions, trusted
	Addrs []netip.AddrPort
}

// A Machine is all that the doctor looks at; tests put another in its place.
type Machine struct {
	Facts   machine.Facts
	Sockets []machine.Socket
	Now     time.Time
	Means   machine.Means

	DNS   DNS
	Disk  func(path string) (machine.Space, error)
	Clock func() (machine.Clock, error)
	Judge func(dir string, user int) error // of the state folder
	// Landlock is the version that the kernel has; 0: none.
	Landlock func() int
	// Listen opens a TCP listener, which is closed at once.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// DNS is what the doctor asks; resolve.Resolver is one.
type DNS interface {
	Addresses(ctx context.Context, name string) ([]netip.Addr, error)
	Names(ctx context.Context, a netip.Addr) ([]string, error)
	Exchangers(ctx context.Context, domain string) ([]string, error)
	Validates(ctx context.Context) (bool, error)
}

// ThisMachine is the machine that the program runs on.
func ThisMachine(dns *resolve.Resolver) (Machine, error) {
	facts, err := machine.Here()
	if err != nil {
		return Machine{}, err
	}
	sockets, err := machine.Listening(os.DirFS("/"))
	if err != nil {
		return Machine{}, err
	}
	return Machine{
		Facts: facts, Sockets: sockets, Now: time.Now(), Means: machine.MeansHere(os.DirFS("/")), DNS: dns,
		Disk: machine.Disk, Clock: machine.ReadClock, Judge: state.Judge, Landlock: sandbox.Landlock,
		Listen: new(net.ListenConfig).Listen, Dial: new(net.Dialer).DialContext,
	}, nil
}

// A check looks at one thing.
type check struct {
	name string
	look func(context.Context, Server, Machine) []Finding
}

// checks is what Run does, in this order.
var checks = []check{
	{"listener", checkListeners},
	{"reach", checkReach},
	{"trust", checkTrust},
	{"hostname", checkHostname},
	{"reverse", checkReverse},
	{"mx", checkExchangers},
	{"resolver", checkResolver},
	{"certificate", checkCertificate},
	{"files", checkFiles},
	{"state", checkState},
	{"sandbox", checkSandbox},
	{"disk", checkDisk},
	{"means", checkMeans},
	{"clock", checkClock},
	{"outgoing", checkOutgoing},
}

// patience bounds one check: a resolver that is silent must not make the
// doctor silent.
const patience = 30 * time.Second

var errPatience = errors.New("no answer in 30 s")

// Run does every check. A check that has nothing to look at finds nothing.
func Run(ctx context.Context, s Server, m Machine) []Finding {
	var all []Finding
	for _, c := range checks {
		ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
		for _, f := range c.look(ctx, s, m) {
			f.Check = c.name
			all = append(all, f)
		}
		cancel()
	}
	return all
}

// public reports whether an address is reached from the internet as it stands.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a)
}

// shared is the space between providers and their customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// publicAddrs are the machine's own public addresses.
func (m Machine) publicAddrs() []netip.Addr {
	var list []netip.Addr
	for _, i := range m.Facts.Own {
		if a := i.Prefix.Addr(); public(a) {
			list = append(list, a)
		}
	}
	return list
}

// owns reports whether an address is this machine's.
func (m Machine) owns(a netip.Addr) bool {
	for _, i := range m.Facts.Own {
		if i.Prefix.Addr().Unmap() == a.Unmap() {
			return true
		}
	}
	return false
}
