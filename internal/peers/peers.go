// Package peers runs mail servers, proxies and forwarders of other people's making, as Debian ships
// them, each in a small world of its own: a target with its own root, processes, names and network,
// and a tester on the other side of a wire. Nothing is installed on the machine, nothing that
// happens in such a world reaches another network, and all of it ends with the test, also when the
// test is killed.
package peers

import (
	"os"
	"testing"
)

// The addresses of both ends are the documentation's (RFC 5737, RFC 3849), so that nothing real
// is ever meant by them.
const (
	Tester4 = "192.0.2.66"
	Tester6 = "2001:db8:1::66"
	Target4 = "203.0.113.10"
	Target6 = "2001:db8:2::10"

	// Domain is what every target serves; Host is its name there. Postmaster and anna have
	// mailboxes, nobody else has.
	Domain = "victim.example"
	Host   = "mx.victim.example"

	// Collector is the domain whose mail the tester takes; the targets ask the tester for it.
	Collector = "relaytest.example"
	// Partner is the domain that some targets relay for as a second hop, in the collector's zone.
	Partner = "partner.relaytest.example"
)

// A Case is one server with one configuration, and what is true of it.
type Case struct {
	Server string // postfix, exim, opensmtpd, sendmail, postern
	Config string // names the configuration among those of its server
	What   string // what is set, in the words of its manual

	Want        string // the verdict it deserves: open, accepts, closed
	Backscatter bool   // it returns mail for unknown users to whoever is named as sender
	Takes       bool   // it takes a stranger's message all the same, and returns it
	Shuns       bool   // it refuses mail for its own postmaster too
	Unnamed     bool   // its owner does not tell the auditor which domain it serves
	Defers      bool   // it answers 4xx to what it has not seen before
	Hole        string // forms, of which at least one must prove that it is open
	Family      string // 4 or 6: over which address it is judged

	Flags []string // what its owner tells the auditor besides the address and the domain

	Knock Knock // a raw conversation that shows what the case is, without the auditor
	setup func() setup
}

// Name is what the case is called in tests and tables.
func (c Case) Name() string { return c.Server + "/" + c.Config }

// Address is the target's address in the family over which the case is judged.
func (c Case) Address() string {
	if c.Family == "6" {
		return Target6
	}
	return Target4
}

// A Knock is one try by hand. {local} in a path stands for a mailbox of the target, {foreign} for
// an address of the collector.
type Knock struct {
	Port     string // 25 if empty
	Preamble string // sent before the banner is read, like a PROXY header
	Before   []string
	Helo     string
	From     string
	To       []string // the last one is the stranger's
}

// setup is how a server is made to run in its world.
type setup struct {
	root  string            // which unpacked root; see packages.go
	files map[string]string // written over what the packages hold
	start string            // shell, run in the world as root; daemons go into the background
	ports []string          // TCP ports that must listen before the world is ready

	postern bool // our own program is there, as /run/peers/postern

	// disk names folders of the world that lie on this machine's disk, and not in
	// memory as all else: where a server syncs what it must not lose.
	disk []string
}

// Require skips the test where such worlds cannot be made: they need root for the namespaces, and
// are asked for by name because they fetch Debian packages on their first run.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv("POSTERN_PEERS") == "" {
		t.Skip("real mail servers: set POSTERN_PEERS=1 (./test does)")
	}
	if os.Getuid() != 0 {
		t.Skip("real mail servers: run as root, which network namespaces need")
	}
}
