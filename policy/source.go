package policy

import (
	"net/netip"

	"postern/internal/problem"
	"postern/mail"
)

// A Role says what a listener is for. It is one value and no set of flags:
// mixtures of roles are how relays are opened by accident.
type Role uint8

// The roles.
const (
	MX          Role = iota + 1 // mail for our own domains from anybody; no login
	Submission                  // for those who log in, after STARTTLS (RFC 6409)
	Submissions                 // for those who log in, TLS from the first octet (RFC 8314)
	Trusted                     // for trusted clients, known by their address
)

var roleNames = map[Role]string{MX: "mx", Submission: "submission", Submissions: "submissions", Trusted: "trusted"}

// String returns the role as the configuration writes it.
func (r Role) String() string { return roleNames[r] }

// ParseRole reads a role as the configuration writes it.
func ParseRole(s string) (Role, bool) {
	for r, name := range roleNames {
		if s == name {
			return r, true
		}
	}
	return 0, false
}

// Roles returns all roles in their order.
func Roles() []Role { return []Role{MX, Submission, Submissions, Trusted} }

// A Source is what a configuration says, with the place of each word. It is
// plain data; Compile makes a Policy of it or says what is wrong.
type Source struct {
	Hash      string // names this state of the configuration in grants and in the proof
	Hostname  mail.Domain
	Listeners []Listener
	Domains   []Domain
	Users     []User
	Trusted   []TrustedClient
	Gateways  []Gateway
	Around    Surroundings
}

// A Listener is one way in.
type Listener struct {
	Name string // unique
	Role Role
	Port uint16 // at which clients reach it, as refusals tell them; 0: it is not known
	// ProxyFrom names the balancers that must begin with a PROXY header; when
	// it is not empty nobody else is served here.
	ProxyFrom []Network
	At        problem.Pos
}

// A Network is a prefix and where it was written.
type Network struct {
	Prefix netip.Prefix
	At     problem.Pos
}

// A Domain is ours: mail for its mailboxes comes in from anybody.
type Domain struct {
	Name       mail.Domain
	Mailboxes  []string     // local parts that exist; postmaster always does (RFC 5321 section 4.5.1)
	Asked      bool         // the next hop is asked for what is not listed
	CatchAll   mail.Address // takes what does not exist; zero: it is refused
	Subaddress string       // the separator of "name+detail"; "" for none
	Aliases    []Alias
	At         problem.Pos
}

// An Alias is a local part that stands for other addresses.
type Alias struct {
	Name string
	To   []mail.Address
	// Sender is the reverse-path of what is forwarded to foreign domains. It
	// must be ours: with a stranger's, the mail would fail SPF, and its bounces
	// would go to somebody who never wrote to that address.
	Sender mail.ReversePath
	At     problem.Pos
}

// A User may log in; a token of an application is a user of its own, named
// "user/token".
type User struct {
	Name      string
	MaySendAs []Senders
	MailOnly  bool // no gateway leads it anywhere: a token that was made for mail
	At        problem.Pos
}

// A TrustedClient may send without login, from one narrow network.
type TrustedClient struct {
	Name      string
	Networks  []Network
	MaySendAs []Senders
	// Acknowledged names networks and addresses that would be refused as too
	// wide or as a gateway, and are meant all the same.
	Acknowledged []netip.Prefix
	At           problem.Pos
}

// Surroundings are what the machine knows of itself, as values.
type Surroundings struct {
	Gateways []netip.Addr // default gateways: the road by which everybody arrives
	Bridges  []netip.Addr // own addresses of bridges: who a container's proxy makes everybody look like
	Own      []netip.Addr // all other addresses of this machine
}
