package check

import (
	"context"
	"net"
	"net/netip"
	"time"

	"postern/door"
	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

// A Collector is where proof arrives. Package collect has three.
type Collector interface {
	Domain() string
	Tokens(ctx context.Context, n int, ttl time.Duration) ([]plan.Token, error)
	Recipient(t plan.Token) mail.Address
	// Arrivals blocks until something newer than after exists or ctx ends.
	Arrivals(ctx context.Context, after uint64) (list []verdict.Arrival, next uint64, err error)
	// Preflight says what arrivals cannot be seen, and why.
	Preflight(ctx context.Context) error
}

// A Fronted collector says where a proxy can be led to, and knows its own
// banners. Without one, proxies are recognised and asked for nothing.
type Fronted interface {
	Front(ctx context.Context) (plan.Front, error)
	Ours(ctx context.Context, banner string) (bool, error)
}

// A Resolver finds the addresses of a target.
type Resolver interface {
	Addresses(ctx context.Context, name string) ([]netip.Addr, error)
	Exchangers(ctx context.Context, domain string) ([]string, error) // the hosts of its MX records, best first
	Names(ctx context.Context, a netip.Addr) ([]string, error)       // PTR
}

// Options say how to check. The zero value works, but sees no arrivals and
// resolves no names.
type Options struct {
	Collector Collector
	Blind     string // why arrivals cannot be seen, where the caller knows; "": Begin finds out
	Lasting   bool   // the collector goes on after us and knows our tokens: what arrives late is seen there
	Resolver  Resolver
	// Backup names the domain in our zone that lists an address, and the
	// target's own name when it is known, as further MXs; nil when there is no zone.
	Backup func(a netip.Addr, host mail.Domain) mail.Domain
	// OneFamily names the domain in our zone whose mail comes to us over IPv6
	// alone, or over IPv4 alone; zero where we have no address of that family.
	OneFamily   func(six bool) mail.Domain
	CollectorIP netip.Addr // for the form that sends to our address literal
	Dial        func(ctx context.Context, network, address string) (net.Conn, error)

	Ports       []uint16
	Doors       []door.Door // which to look for; none: all
	Inside      bool        // also ask proxies for their own machine
	Families    []int       // 4, 6; none: both
	Forms       []string
	Quick       bool              // the core and the controls alone
	TryLogins   bool              // also try logins that anybody could guess
	Logins      []plan.Credential // to try instead of those
	LoginPause  time.Duration     // between two of them; 0: two seconds
	Owned       bool              // the caller says that the targets are theirs
	Listed      bool              // the targets come from a list: only the name that an address gives itself (PTR) proves it
	ProofSecret []byte            // makes the TXT records that prove it; see ProofText
	Helo        string
	From        mail.ReversePath // instead of the token's own address
	Host        mail.Domain      // the target's name for itself, when known
	Domain      mail.Domain      // a domain that it serves
	Recipient   mail.Address     // a mailbox that it serves
	RelayDomain mail.Domain      // a domain that it relays for
	Partner     mail.Domain      // a domain that it may trust

	Wait     time.Duration // for arrivals after the last acceptance, and for a server that puts us off
	Timeout  time.Duration // for one reply
	Pace     time.Duration // between sessions with a target that is not on a local network
	Sessions int           // side by side with one target
	Parallel int           // targets spoken with at once, those that are only waited for not counted; 0: no limit
	Note     string        // contact, in the message

	Progress func(Event)
}

// Defaults of Options.
const (
	DefaultWait     = 2 * time.Minute
	DefaultPace     = time.Second        // one session a second is less than any mail server's own limit
	DefaultSessions = 3                  // Postfix counts 50 of one client, small servers 3 to 5
	tokenLife       = 5 * 24 * time.Hour // RFC 5321 section 4.5.4.1: a queue gives up after 4 to 5 days
)

func (o Options) withDefaults() Options {
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.Sessions == 0 {
		o.Sessions = DefaultSessions
	}
	if o.Helo == "" {
		o.Helo = "postern-check.invalid"
	}
	if o.Dial == nil {
		d := &net.Dialer{Timeout: 20 * time.Second}
		o.Dial = d.DialContext
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	return o
}

// An Event is one step of a running check, for a live display. Events of
// several ports come side by side.
type Event struct {
	Addr  netip.AddrPort
	Door  door.Door
	Step  Step
	Text  string // what is waited for or was found
	Form  string // of Played
	State verdict.Outcome
	Done  int // forms decided so far
	Total int // forms that apply
}

// A Step says what an Event is about.
type Step string

// The steps.
const (
	Connecting Step = "connecting"
	Playing    Step = "playing"
	Pausing    Step = "pausing"
	Waiting    Step = "waiting"
	Judged     Step = "judged"
)
