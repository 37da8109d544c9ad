package collect

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/smtp"
	"postern/verdict"
)

// A Resolver names peers, and finds where the collector's mail goes. Package
// internal/resolve has one.
type Resolver interface {
	Names(ctx context.Context, a netip.Addr) ([]string, error)
	Exchangers(ctx context.Context, domain string) ([]string, error)
	Addresses(ctx context.Context, name string) ([]netip.Addr, error)
}

// Config says what a Local collector is. Domain must be given.
type Config struct {
	Domain    mail.Domain    // mail for it, and for names below it, reaches the listeners
	Zone      mail.Domain    // so does mail for names below this one; zero: none
	Addresses []netip.Addr   // ours besides those of the listeners, for recipients at an address literal
	Listeners []net.Listener // Run serves and closes them
	Secret    []byte         // at least 16 octets; none: that in State, or chance, and then tokens die with the process
	TLS       *tls.Config    // for STARTTLS; nil: a certificate made at start, which relays take as any
	Resolver  Resolver       // nil: peers stay without name, and Preflight asks the listeners
	Contact   string         // said to whom is refused
	State     string         // folder that keeps arrivals over a restart; "": none
	Keep      Keep
	Limits    smtp.Limits // zero fields are the collector's own

	// Reach is where mail for Domain is handed to us, when that is not port 25
	// of its exchangers.
	Reach []netip.AddrPort
	// Ports are further ports of ours, each for the one that it stands for: a
	// proxy that shuts port 25 is asked for 443, 465 and 587. The listeners
	// of these are among Listeners.
	Ports map[uint16]uint16
	// Dial is how Preflight reaches the collector; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Arrived func(verdict.Arrival) // is told of each arrival, one at a time; it must not block
	Failed  func(error)           // is told what went wrong beside the way; arrivals are still seen
}

// A Local is a collector in this process. It is safe for concurrent use.
type Local struct {
	c       Config
	keys    keys
	ours    ours
	server  *smtp.Server
	store   *store
	journal *journal // nil: none
	pending sync.WaitGroup

	mu sync.Mutex // one arrival is told at a time
}

// limits of the collector: probes are small; a peer may well be an old proxy
// that talks HTTP at first; one smarthost may bring the arrivals of many tests.
var limits = smtp.Limits{
	PerClient: 100, PerNetwork: 200, Errors: 100, Messages: 1000, Recipients: 100,
	MessageSize: 4 << 20, TextLine: -1,
}

// NewLocal makes a collector; Run serves it.
func NewLocal(c Config) (*Local, error) {
	if c.Domain.IsZero() || c.Domain.IsLiteral() {
		return nil, errors.New("the collector has no domain; name one whose mail reaches it: --collector DOMAIN")
	}
	if err := c.secret(); err != nil {
		return nil, err
	}
	if c.TLS == nil {
		certificate, err := selfSigned(c.Domain.ASCII())
		if err != nil {
			return nil, err
		}
		c.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10} //nolint:gosec // an old relay's TLS is worth seeing
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	if c.Limits == (smtp.Limits{}) {
		c.Limits = limits
	}
	l := &Local{
		c: c, keys: newKeys(c.Secret), store: newStore(c.Keep, time.Now()),
		ours: ours{domain: c.Domain, zone: c.Zone, addresses: c.Addresses},
	}
	// A bare LF is what some relays make of a message, and what some forms
	// send: it shall be seen, not refused.
	l.server = &smtp.Server{Name: c.Domain.ASCII(), Handler: l, TLS: c.TLS, Limits: c.Limits, Lines: smtp.NormaliseLines}
	if c.State == "" {
		return l, nil
	}
	return l, l.load()
}

// secret finds the collector's secret: the one given, else the one kept in
// its state, else one that nobody knows.
func (c *Config) secret() error {
	switch {
	case len(c.Secret) > 0:
	case c.State != "":
		if err := os.MkdirAll(c.State, 0o700); err != nil {
			return fmt.Errorf("the collector's state: %w", err)
		}
		text, err := MakeSecret(filepath.Join(c.State, "secret"))
		if err != nil {
			return fmt.Errorf("the collector's secret: %w", err)
		}
		c.Secret = []byte(text)
	default:
		c.Secret = make([]byte, 32)
		rand.Read(c.Secret)
	}
	if len(c.Secret) < minSecret {
		return fmt.Errorf("the collector's secret has %d octets; give it %d or more", len(c.Secret), minSecret)
	}
	return nil
}

func (l *Local) load() error {
	now := time.Now()
	j, list, broken, err := openJournal(l.c.State, l.store.keep, now)
	if err != nil {
		return fmt.Errorf("the collector's state: %w", err)
	}
	l.journal = j
	for _, a := range list {
		l.store.add(a, now)
	}
	if broken > 0 {
		l.c.Failed(fmt.Errorf("%s: %d lines could not be read and are left out", j.path, broken))
	}
	return nil
}

// Run serves until ctx ends, and returns when every session has ended.
func (l *Local) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(l.c.Listeners))
	var wg sync.WaitGroup
	for i, listener := range l.c.Listeners {
		wg.Go(func() {
			defer cancel() // one listener that fails ends the others
			errs[i] = l.server.Run(ctx, webListener{listener})
		})
	}
	if len(l.c.Listeners) == 0 {
		<-ctx.Done()
	}
	wg.Wait()
	l.pending.Wait()
	err := errors.Join(errs...)
	if l.journal != nil {
		err = errors.Join(err, l.journal.close())
	}
	return err
}

// ServeConn serves one connection, and closes it.
func (l *Local) ServeConn(ctx context.Context, conn net.Conn) error {
	return l.server.ServeConn(ctx, &webConn{Conn: conn})
}

// take records an arrival: on the disk at once, for those who wait for it when
// the peer's name is known or will not come.
func (l *Local) take(a verdict.Arrival, name *ptr) {
	if l.journal != nil {
		if err := l.journal.append(a, time.Now()); err != nil {
			// Whoever waits in this process still sees it.
			l.c.Failed(fmt.Errorf("an arrival of %s is not kept: %w", a.Tokens[0], err))
		}
	}
	select {
	case <-name.done:
		l.tell(a, name)
	default:
		l.pending.Go(func() {
			<-name.done
			l.tell(a, name)
		})
	}
}

func (l *Local) tell(a verdict.Arrival, name *ptr) {
	a.PTR = name.name
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store.add(a, time.Now())
	if l.c.Arrived != nil {
		l.c.Arrived(a)
	}
}

// Domain is where probes are sent to.
func (l *Local) Domain() string { return l.c.Domain.ASCII() }

// Tokens mints n tokens that live for ttl.
func (l *Local) Tokens(_ context.Context, n int, ttl time.Duration) ([]plan.Token, error) {
	return l.keys.mint(n, ttl, time.Now())
}

// Recipient is the address of a token.
func (l *Local) Recipient(t plan.Token) mail.Address { return recipientAt(t, l.c.Domain) }

func recipientAt(t plan.Token, d mail.Domain) mail.Address {
	a, err := mail.NewAddress(string(t), d)
	if err != nil {
		return mail.Address{} // no token: those are atoms of 26 octets
	}
	return a
}

// Arrivals blocks until there is something newer than after, or ctx ends.
func (l *Local) Arrivals(ctx context.Context, after uint64) ([]verdict.Arrival, uint64, error) {
	return l.store.wait(ctx, after)
}
