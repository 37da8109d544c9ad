package guard

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"time"

	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// An Intake takes what was granted. An error that has a method Reply is told
// to the client in its own words, any other as 451.
type Intake interface {
	Put(ctx context.Context, l policy.Letter, body io.Reader) (size int64, err error)
	Room(size int64) error
	Spare(size int64) error // the same of a stranger's message
}

// A Login checks who somebody is (RFC 4954).
type Login interface {
	Mechanisms(state *tls.ConnectionState) []string
	Login(ctx context.Context, c LoginClient, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) LoginResult
}

// A LoginClient is who tries.
type LoginClient struct {
	Addr   netip.Addr
	TLS    *tls.ConnectionState
	Shared bool // many clients seem to come from this address
	// Private says that a password may come without TLS of ours, by PLAIN alone.
	Private bool
}

// A LoginResult is what came of it. Only a reply of code 235 sets the identity.
type LoginResult struct {
	Identity string
	Reply    mail.Reply
	Wait     time.Duration // before the reply: guessing must be slow
	Why      string        // for the log; never a password
}

// Mailboxes asks the next hop of a domain whether a mailbox exists. An error
// means that nobody can tell now.
type Mailboxes interface {
	Exists(ctx context.Context, a mail.Address) (bool, error)

	// Offers returns what the next hop of a domain offered when it was asked
	// last; heard is false if that is not known.
	Offers(d mail.Domain) (o Offer, heard bool)
}

// SMTP is the guarded mail server of one listener. Its fields must not change
// once it runs.
type SMTP struct {
	Name      string // of this host, in trace fields
	Listener  string // as the policy knows it
	Role      policy.Role
	Policy    func() *policy.Policy // the one in force
	Intake    Intake
	NewID     func() string
	Login     Login                 // nil: nobody can log in
	Mailboxes Mailboxes             // nil: what would have to be asked is put off
	State     *State                // what listeners share
	Shared    func(netip.Addr) bool // an address that many clients seem to come from; nil: none is
	Limits    Limits
	Rate      func(who string) (Rate, bool) // of one user or trusted client; nil: all have that of Limits
	Watch     func(Event)                   // nil: nobody watches

	// Hold says why a message of an identity or trusted client must wait for the
	// operator, though policy and limits let it leave; "": it need not. It is
	// called by any session; nil: nobody asks for that.
	Hold func(who string, l *policy.Letter) (why string)
}

// Limits bound what one client can do here, beside those of the engine.
type Limits struct {
	Pause         time.Duration   // before the banner of the mx role; who talks within it is refused
	Connections   Rate            // of one address (IPv6: one /64)
	Unknown       int             // mailboxes that do not exist, in one session
	PerUser       Rate            // messages of one identity; beyond they are held
	PerUserBytes  Rate            // octets of one identity; beyond they are held
	PerClient     Rate            // recipients of one trusted client that has no rate of its own
	PerAlias      Rate            // foreign addresses to which one alias forwards strangers' messages; beyond they are put off
	Clients       map[string]Rate // of those that have one of their own, for who composes Rate
	Strangers     Rate            // messages that begin at role mx, of one address; its network has four times as much
	StrangerBytes Rate            // octets of them, the same
	StrangerRcpts Rate            // recipients that they name, the same
	HeaderBytes   int             // of a message's header section
	HeaderLines   int
	Hops          int // Received fields, beyond which a message goes in circles
}

// DefaultLimits are those of a relay for one organisation.
var DefaultLimits = Limits{
	Connections:   Rate{60, time.Minute},
	Unknown:       5,
	PerUser:       Rate{1000, 24 * time.Hour},
	PerUserBytes:  Rate{2 << 30, 24 * time.Hour},
	PerClient:     Rate{300, time.Hour},
	PerAlias:      Rate{300, time.Hour},
	Strangers:     Rate{1000, time.Hour},
	StrangerBytes: Rate{2 << 30, time.Hour}, // a large provider sends from few addresses, and one of its customers may send much
	StrangerRcpts: Rate{3000, time.Hour},
	HeaderBytes:   256 << 10,
	HeaderLines:   1000,
	Hops:          100, // RFC 5321 section 6.3 asks for at least as many; mostVisits finds our own circles long before
}

// State is what all listeners of one relay share: who came how often, and who
// is no longer trusted. The zero State is ready.
type State struct {
	Witness     Witness
	Flight      Flight
	friends     friends
	connections Buckets
	messages    Buckets
	bytes       Buckets
	recipients  Buckets
	forwarded   Buckets // by aliases, to foreign addresses
	pace        Buckets // how fast our own people send
	tunnels     Buckets // how fast they open them
	strangers   Buckets // and strangers, who must not crowd out ours

	strangeMessages, strangeRcpts, strangeBytes Buckets // of strangers at role mx
}

// Connect begins a session.
func (s *SMTP) Connect(ctx context.Context, p *smtp.Peer) (smtp.Session, mail.Reply) {
	v := &session{server: s, peer: p, id: s.NewID(), addr: p.Remote.Addr().Unmap().WithZone(""), began: time.Now()}
	v.message = v.id
	if v.addr.IsValid() && !s.State.connections.Allow(prefixOf(v.addr), 1, s.Limits.Connections, time.Now()) {
		r := v.refuse(CauseRate, mail.NewReply(421, "4.7.0", "Too many connections from your address; slow down"))
		return nil, r
	}
	v.note(Event{Kind: Connected})
	if s.Role == policy.Submission || s.Role == policy.Submissions {
		return &loginSession{v}, mail.Reply{}
	}
	return v, mail.Reply{}
}

// prefixOf is what one client holds: an address, or the /64 of an IPv6 host.
func prefixOf(a netip.Addr) string {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a.String()
	}
	return p.String()
}
