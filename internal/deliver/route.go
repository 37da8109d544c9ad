package deliver

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/internal/maildir"
	"postern/internal/problem"
	"postern/mail"
)

// A Kind says how mail leaves by a route.
type Kind uint8

// The kinds of routes.
const (
	ToMX        Kind = iota + 1 // the exchangers that the domain names (RFC 5321 section 5.1)
	ToSmarthost                 // a server that relays for us
	ToHop                       // the server that has the mailboxes of a domain of ours, by SMTP or LMTP
	ToMaildir                   // a folder of this machine
	ToNobody                    // it is held
)

var kindNames = [...]string{ToMX: "mx", ToSmarthost: "smarthost", ToHop: "hop", ToMaildir: "maildir", ToNobody: "hold"}

// String returns the kind as the configuration writes it.
func (k Kind) String() string { return kindNames[k] }

// A TLSPolicy says how far connections of a route are protected.
type TLSPolicy uint8

// The policies. May is opportunistic (RFC 7435): without a certificate that
// would prove anything, encryption that an eavesdropper must break is better
// than none. Verify wants the certificate of the name that we connect to.
const (
	May TLSPolicy = iota
	None
	Require
	Verify
)

var tlsNames = [...]string{May: "may", None: "none", Require: "require", Verify: "verify"}

// String returns the policy as the configuration writes it.
func (p TLSPolicy) String() string { return tlsNames[p] }

// ParseTLSPolicy reads a policy as the configuration writes it.
func ParseTLSPolicy(s string) (TLSPolicy, bool) {
	i := slices.Index(tlsNames[:], s)
	return TLSPolicy(max(i, 0)), i >= 0
}

// A Secret is a password; it never prints itself.
type Secret string

// String hides it.
func (Secret) String() string { return "(hidden)" }

// GoString hides it.
func (Secret) GoString() string { return "(hidden)" }

// A Route is one way out.
type Route struct {
	Name      string // the domain, or "default"
	Kind      Kind
	Hosts     []Host           // of ToSmarthost and ToHop; of several, any
	LMTP      bool             // of ToHop: RFC 2033
	Folder    maildir.Template // of ToMaildir
	Separator string           // of ToMaildir: what follows it in a local part names no folder of its own; "": nothing does
	User      string           // of ToSmarthost: who logs in; "": nobody
	Pass      Secret
	TLS       TLSPolicy
	Source    []netip.Addr // where connections come from; none: as the machine likes
	Proxy     Proxy        // what they go through; zero: nothing
	Helo      string       // our name in EHLO; "": the host's
	Most      int          // connections at once for each destination; 0: the default
	Why       string       // of ToNobody, for the operator
	At        problem.Pos  // the line that says so; zero: nobody said otherwise
}

// A Host is where a route leads: a name or address and a port, or the path of
// a socket of this machine.
type Host struct {
	Network string // tcp, unix
	Name    string // without brackets; a path of unix
	Port    uint16
}

// ParseHost reads host:port; a missing port is that of SMTP.
func ParseHost(s string) (Host, error) {
	name, port, err := net.SplitHostPort(s)
	if err != nil {
		name, port = strings.Trim(s, "[]"), "25"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || name == "" || n == 0 {
		return Host{}, fmt.Errorf("%q is no host and port", s)
	}
	return Host{Network: "tcp", Name: name, Port: uint16(n)}, nil
}

// String returns host:port, or the path.
func (h Host) String() string {
	if h.Network == "unix" {
		return h.Name
	}
	return net.JoinHostPort(h.Name, fmt.Sprint(h.Port))
}

// Routes are all ways out.
type Routes struct {
	Hostname mail.Domain
	Ours     map[string]Route // by domain in A-labels: where its mailboxes are
	Others   map[string]Route // by domain in A-labels: it and all below it
	Default  Route            // for all others; the zero Route: the domain's exchangers
}

// For returns the way for a destination, as the queue names it: the mailboxes
// of a domain of ours, then the longest name that matches, then the default.
func (r *Routes) For(destination string) Route {
	if way, ok := r.Ours[destination]; ok {
		return way
	}
	if destination == "" || destination == r.Hostname.ASCII() {
		return Route{Name: destination, Kind: ToNobody, Why: "it is for this host, which has no mailboxes; give its domain a deliver"}
	}
	for name := destination; name != ""; {
		if way, ok := r.Others[name]; ok {
			return way
		}
		_, name, _ = strings.Cut(name, ".")
	}
	if r.Default.Kind != 0 {
		return r.Default
	}
	return Route{Name: "default", Kind: ToMX}
}

// inside reports whether the route may lead to addresses that strangers must
// not name: those that the operator wrote.
func (r *Route) inside() bool { return r.Kind != ToMX }

// identity tells connections apart that must not be shared: by where they come
// from, who logged in, and how far they are protected.
func (r *Route) identity(h Host) string {
	b := make([]byte, 0, 128)
	b = append(b, byte(r.Kind), byte(r.TLS), '|')
	b = strconv.AppendBool(b, r.LMTP)
	for _, s := range [...]string{h.Network, h.Name, r.User, r.Helo} {
		b = append(append(b, '|'), s...)
	}
	b = append(append(b, '|'), r.Proxy.Host.Name...)
	b = strconv.AppendUint(append(b, '|'), uint64(h.Port), 10)
	for _, a := range r.Source {
		b = a.AppendTo(append(b, '|'))
	}
	return string(b)
}
