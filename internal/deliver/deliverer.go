package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern/internal/queue"
	"postern/internal/resolve"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// A Queue is what deliveries come from and notices go to.
type Queue interface {
	queue.Intake
	queue.Supply
	Open(ctx context.Context, id string) (io.ReadCloser, error)
}

// A Resolver is the DNS.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]resolve.MX, error)
	Addresses(ctx context.Context, name string) ([]netip.Addr, error)
}

// Options are what a Deliverer is made of. Queue, Policy, Routes and Resolver
// must be given; of the rest the zero value has a default.
type Options struct {
	Queue     Queue
	Policy    func() *policy.Policy // the one in force
	Routes    func() *Routes        // those in force
	Resolver  Resolver
	Own       func(netip.Addr) bool      // addresses of this machine; nil: none is known
	Suspended func(client string) string // why a trusted client is trusted no more, or ""; nil: all are
	Limits    Limits
	Lifetimes Lifetimes
	Timeouts  smtp.Timeouts
	TLS       *tls.Config // roots of Verify; nil: the machine's

	// Dial connects from an address, which may be none, to a host and port, or
	// the path of a socket. nil is a net.Dialer.
	Dial func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error)

	// Running returns how long the machine has run, asleep or awake; nil: as long
	// as this process was awake. What the clock differs from it was set by hand.
	Running func() time.Duration

	Watch  func(Event) // hears of each delivery; nil: nobody
	Report func(error) // takes what an operator must hear of; nil: nobody hears
}

// An Event is one delivery that was made, put off or given up.
type Event struct {
	Message     string
	Destination string
	From        mail.ReversePath
	To          mail.Address
	Grant       policy.Record
	Origin      queue.Origin
	Size        int64
	Attempts    int
	Class       string // of a refusal, as package bounce says
	queue.Outcome
}

// A Deliverer delivers. Make one with New; it works while Run does.
type Deliverer struct {
	o     Options
	pool  *pool
	peers peers
	tls   [Verify + 1]*tls.Config

	asked  chan chan<- []Status // by Snapshot
	failed context.Context      //nolint:containedctx // ends when a queue that fails is waited for no more; made by Run
	lifts  chan lift            // by Lift
}

// A lift is a call of Lift.
type lift struct {
	names  []string
	lifted chan<- []Status
}

// New makes a Deliverer.
func New(o Options) *Deliverer {
	o.Limits, o.Lifetimes = o.Limits.withDefaults(), o.Lifetimes.withDefaults()
	if o.Dial == nil {
		o.Dial = dialer
	}
	if o.Watch == nil {
		o.Watch = func(Event) {}
	}
	if o.Suspended == nil {
		o.Suspended = func(string) string { return "" }
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	d := &Deliverer{o: o, pool: newPool(), asked: make(chan chan<- []Status), lifts: make(chan lift)}
	base := o.TLS
	if base == nil {
		base = &tls.Config{}
	}
	for p := range d.tls {
		c := base.Clone()
		c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
		// A session that nobody verified must not be resumed by who wants that.
		c.ClientSessionCache = tls.NewLRUClientSessionCache(512)
		c.InsecureSkipVerify = TLSPolicy(p) != Verify //nolint:gosec // May and Require ask for no name, see there
		d.tls[p] = c
	}
	return d
}

var (
	errStopping = errors.New("the relay stops")
	errTooLong  = errors.New("the attempt took " + attemptLimit.String())
)

// owner names our leases.
const owner = "deliver"

// lastWord is how long a queue that cannot take what became of a message is
// waited for, once the relay was told to stop: a disk that comes back in that
// time spares somebody a second copy, and one that does not holds up the end.
const lastWord = 5 * time.Second

// Run delivers until ctx ends. It then lets attempts that are under way come
// to their end, at most for grace, and gives back what it had not begun.
func (d *Deliverer) Run(ctx context.Context, grace time.Duration) error {
	// What is on the wire when we are told to stop would be sent twice if it
	// were cut off (RFC 1047).
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var done context.CancelFunc
	d.failed, done = context.WithCancel(work)
	defer done()
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() { stop(errStopping) })
		time.AfterFunc(min(grace, lastWord), done)
	})()
	var g sync.WaitGroup
	g.Go(func() { d.pool.run(ctx) })
	s := newScheduler(d, work)
	s.run(ctx)
	g.Wait()
	return nil
}

// Lift ends the pauses of destinations that did not answer, of all if no name
// is given, and returns how they were before; nothing when Run does not run.
func (d *Deliverer) Lift(ctx context.Context, names ...string) []Status {
	answer := make(chan []Status, 1)
	select {
	case d.lifts <- lift{names, answer}:
		return <-answer
	case <-ctx.Done():
		return nil
	}
}

// Snapshot returns what is done for each destination now; nothing when Run
// does not run.
func (d *Deliverer) Snapshot(ctx context.Context) []Status {
	answer := make(chan []Status, 1)
	select {
	case d.asked <- answer:
		return <-answer
	case <-ctx.Done():
		return nil
	}
}

// Alive returns nil once the part that decides what is tried next has answered.
func (d *Deliverer) Alive(ctx context.Context) error {
	d.Snapshot(ctx)
	return ctx.Err()
}
