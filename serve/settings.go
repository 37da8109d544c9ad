package serve

import (
	"errors"
	"net/netip"
	"time"

	"postern/guard"
	"postern/internal/deliver"
	"postern/internal/problem"
	"postern/internal/state"
	"postern/policy"
	"postern/smtp"
)

// A Secret is a file that holds a key or a login, and where it is named.
type Secret struct {
	File string
	At   problem.Pos
}

// Settings is one configuration: everything that a reload can change, each
// with its place where a person wrote it.
type Settings struct {
	File      string        // the configuration file; "" when there is none
	Files     []string      // what else was read for it, or is named in it
	Secrets   []Secret      // those of Files that hold a secret
	State     string        // the state folder; "": the default
	Policy    policy.Source // hostname, listeners, domains, users, trusted clients
	Listeners []Listener    // one for each of the policy's, by name
	Gateways  []Gateway     // the same
	TLS       Certificate
	Methods   []string           // login methods that are switched on; empty: all
	ClientCAs []string           // PEM files: who may log in with a client certificate
	Hops      map[string]NextHop // by domain in A-labels: where its mailboxes are
	Routes    []Route
	Resolver  netip.AddrPort // the DNS server that is asked; zero: those of the machine
	Delivery  Delivery
	Trace     time.Duration // how long it is remembered what became of a message; 0: 30 days
	Traces    int           // of how many messages at most; 0: a million
	Traffic   Traffic
	Guard     guard.Limits
	Engine    smtp.Limits
	Audit     Audit
	Metrics   netip.AddrPort // where /metrics and /healthz are; zero: nowhere
	MetricsAt problem.Pos
	Log       Log
	Hold      string // why everything that leaves is held; "": it may leave
	Local     bool   // no configuration: loopback only, and a user is made at the first start
}

// A Listener is a way in with its sockets.
type Listener struct {
	Name  string
	Addrs []netip.AddrPort // an unspecified address listens on all of its family
	Role  policy.Role
	Proxy []netip.Prefix // who must begin with a PROXY header
	At    problem.Pos
}

// A Certificate names the files of the host's certificate. Without them one
// is made that nobody else vouches for.
type Certificate struct {
	File, Key string // PEM
	At        problem.Pos
}

// A NextHop is where a domain's mailboxes are: LMTP (RFC 2033) or SMTP.
type NextHop struct {
	LMTP      bool
	Network   string   // tcp, unix
	Address   string   // host:port, or a path
	Hold      bool     // nowhere yet: mail waits in the queue
	Maildir   string   // a folder, with {local} and {domain} in it
	Separator string   // of details in local parts, which share the folder; "": none
	Ask       *NextHop // who is asked whether a mailbox exists; nil: the next hop itself
	At        problem.Pos
}

// A Route says how mail for a domain and those below it leaves; "default" is
// for all others.
type Route struct {
	Domain      string   // "default" or a name
	Smarthosts  []string // host:port, any of them; none goes to the domain's MX
	Login       string   // FILE with user and password on two lines
	TLS         string   // none, may, require, verify
	Hold        bool
	Source      []netip.Addr // where its connections come from; none: as the machine likes
	Helo        string       // our name in EHLO; "": the hostname
	Proxy       string       // socks5://host:port or http://host:port, through which they go; "": none
	ProxyLogin  string       // FILE with its user and password on two lines
	Connections int          // at once for each destination; 0: the limit
	At          problem.Pos
}

// Delivery says how much is delivered at once, and how long it is tried. What
// is zero has a default.
type Delivery struct {
	deliver.Limits
	deliver.Lifetimes
}

// Audit says how often the relay audits itself besides at start and reload.
type Audit struct {
	Every time.Duration
}

// every is what holds without a word of the configuration, too.
func (a Audit) every() time.Duration {
	if a.Every <= 0 {
		return 6 * time.Hour
	}
	return a.Every
}

// Log says what is logged and how.
type Log struct {
	Level string // debug, info, warn, error
	JSON  bool
}

// Exposed says which secrets others than the relay could read or write.
func (s Settings) Exposed() error {
	var found []error
	for _, secret := range s.Secrets {
		found = append(found, state.Secret(secret.File, secret.At))
	}
	return errors.Join(found...)
}
