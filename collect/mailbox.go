package collect

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

// MailboxConfig says which mailbox is looked into.
type MailboxConfig struct {
	Server   string // imap.example.net:993; TLS from the first octet on 993, STARTTLS on others
	User     string
	Password string
	Folder   string       // "" is INBOX
	Address  mail.Address // mail for it ends in the folder
	Fixed    bool         // the mailbox has no subaddresses (RFC 5233): probes go to Address itself
	Secret   []byte       // of the tokens, at least 16 octets; none: chance
	TLS      *tls.Config  // nil: the system's certificates
	Border   []string     // names of the servers that take the mailbox's mail from outside
	Resolver Resolver     // finds Border when it is empty, and names peers; may be nil
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Every    time.Duration // how often to look when the server has no IDLE; 10 s
	Failed   func(error)   // is told why a connection was lost; Run tries again
}

// A Mailbox is an IMAP mailbox of the user's, for who can run no collector.
// It sees less than a collector does: the address from which a message came
// is what the mailbox's own servers wrote into its Received fields, and what
// their filters took away never arrives. The mailbox is opened for reading
// only; no message is marked, moved or kept, beyond the headers of those that
// carry a live token.
type Mailbox struct {
	c      MailboxConfig
	keys   keys
	store  *store
	border []string

	mu    sync.Mutex
	state error         // why the mailbox cannot be seen; errNotYet before the first look
	moved chan struct{} // closed and replaced when state changes
	name  string        // of the folder's generation, and the last message looked at
	last  uint32
	begun time.Time
}

var errNotYet = errors.New("the mailbox has not been opened yet")

// NewMailbox makes a source of arrivals; Run looks into the mailbox.
func NewMailbox(c MailboxConfig) (*Mailbox, error) {
	switch {
	case c.Address.IsZero() || c.Address.Domain().IsZero():
		return nil, errors.New("the mailbox has no address; name the one whose mail it gets")
	case len(c.Secret) > 0 && len(c.Secret) < minSecret:
		return nil, fmt.Errorf("the mailbox's secret has %d octets; give it %d or more", len(c.Secret), minSecret)
	}
	if _, _, err := net.SplitHostPort(c.Server); err != nil {
		return nil, fmt.Errorf("the IMAP server %q: write it as imap.example.net:993", c.Server)
	}
	m := &Mailbox{c: c, state: errNotYet, moved: make(chan struct{}), begun: time.Now()}
	if len(c.Secret) == 0 {
		m.c.Secret = make([]byte, 32)
		rand.Read(m.c.Secret)
	}
	if c.Folder == "" {
		m.c.Folder = "INBOX"
	}
	if c.Every <= 0 {
		m.c.Every = 10 * time.Second
	}
	if c.Dial == nil {
		m.c.Dial = (&net.Dialer{Timeout: 20 * time.Second}).DialContext
	}
	if c.Failed == nil {
		m.c.Failed = func(error) {}
	}
	m.keys, m.store = newKeys(m.c.Secret), newStore(Keep{}, m.begun)
	if a := m.Recipient(m.longest()); a.IsZero() {
		return nil, fmt.Errorf("there is no room for a token in %s; use a shorter address, or a fixed one", c.Address)
	}
	return m, nil
}

// longest is a token like any: all are of one length.
func (m *Mailbox) longest() plan.Token { return plan.Mint(m.keys.token, [5]byte{}, m.begun) }

// Run looks into the mailbox until ctx ends; a connection that is lost is made
// again, ever more slowly while it fails.
func (m *Mailbox) Run(ctx context.Context) error {
	m.border = m.c.Border
	if len(m.border) == 0 && m.c.Resolver != nil {
		// Without them the guess of egressOf has to do.
		m.border, _ = m.c.Resolver.Exchangers(ctx, m.c.Address.Domain().ASCII())
	}
	pause := time.Second
	for ctx.Err() == nil {
		start := time.Now()
		m.try(ctx)
		if time.Since(start) > time.Minute {
			pause = time.Second
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, time.Minute)
	}
	return nil
}

// try is one visit, and says why it ended unless we wanted it to.
func (m *Mailbox) try(ctx context.Context) {
	err := m.visit(ctx)
	if ctx.Err() == nil {
		m.set(err)
		m.c.Failed(err)
	}
}

// set notes whether the mailbox can be seen.
func (m *Mailbox) set(state error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	close(m.moved)
	m.moved = make(chan struct{})
}

// Preflight waits until the mailbox has been opened once, or could not be.
// That mail for it arrives there is not seen by this, only by a probe's arrival.
func (m *Mailbox) Preflight(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preflightAll)
	defer cancel()
	for {
		m.mu.Lock()
		state, moved := m.state, m.moved
		m.mu.Unlock()
		switch {
		case state == nil:
			return nil
		case !errors.Is(state, errNotYet):
			return fmt.Errorf("the mailbox %s cannot be looked into, so no arrival would be seen: %w", m.c.Address, state)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("the mailbox %s cannot be looked into, so no arrival would be seen: %w", m.c.Address, state)
		}
	}
}

// Domain is where probes are sent to.
func (m *Mailbox) Domain() string { return m.c.Address.Domain().ASCII() }

// Tokens mints n tokens that live for ttl.
func (m *Mailbox) Tokens(_ context.Context, n int, ttl time.Duration) ([]plan.Token, error) {
	return m.keys.mint(n, ttl, time.Now())
}

// Recipient is the subaddress of a token, user+token@domain, or the mailbox's
// own address when it is fixed.
func (m *Mailbox) Recipient(t plan.Token) mail.Address {
	if m.c.Fixed {
		return m.c.Address
	}
	a, err := mail.NewAddress(m.c.Address.Local()+"+"+string(t), m.c.Address.Domain())
	if err != nil || len(a.Local()) > mail.MaxLocal {
		return mail.Address{}
	}
	return a
}

// Arrivals blocks until there is something newer than after, or ctx ends.
func (m *Mailbox) Arrivals(ctx context.Context, after uint64) ([]verdict.Arrival, uint64, error) {
	return m.store.wait(ctx, after)
}
