// Package callout asks a domain's next hop whether a mailbox exists, so that a
// stranger's guess is refused at RCPT and never bounced later. What was
// learned is remembered for a while; a next hop that does not answer is no
// answer, and the client is told to come again.
package callout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/guard"
	"postern/mail"
	"postern/smtp"
)

// A Hop is where a domain's mailboxes are.
type Hop struct {
	LMTP    bool   // RFC 2033
	Network string // tcp, unix
	Address string
}

// How long an answer counts. A mailbox that is new must not be refused for
// long; one that was removed is bounced by its next hop at worst.
const (
	yesCounts = time.Hour
	noCounts  = 2 * time.Minute
	patience  = 20 * time.Second // for a whole question
	atOnce    = 8                // questions to all next hops together
	maxKept   = 20_000           // answers
)

// A Caller asks. It is safe for concurrent use; the zero Caller is not ready.
type Caller struct {
	Name string // ours, in EHLO or LHLO
	Hop  func(mail.Domain) (Hop, error)
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer

	places chan struct{}
	mu     sync.Mutex
	kept   map[string]*answer
	offers map[string]offer // by domain in A-labels
}

// An offer is what a next hop said that it takes.
type offer struct {
	guard.Offer
	until time.Time
}

type answer struct {
	done  chan struct{} // closed when the question was answered
	known bool
	err   error
	until time.Time
}

// New makes a Caller.
func New(name string, hop func(mail.Domain) (Hop, error)) *Caller {
	return &Caller{Name: name, Hop: hop, places: make(chan struct{}, atOnce), kept: map[string]*answer{}, offers: map[string]offer{}}
}

// Exists reports whether the next hop takes mail for a. An error means that it
// could not be asked.
func (c *Caller) Exists(ctx context.Context, a mail.Address) (bool, error) {
	key := strings.ToLower(a.Local()) + "@" + a.Domain().ASCII()
	for {
		kept, ours := c.enter(key, time.Now())
		if ours {
			known, err := c.ask(ctx, a)
			c.settle(key, kept, known, err)
			return known, err
		}
		select {
		case <-kept.done:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		// Who asked for us may have left in the middle: then we ask ourselves.
		if !errors.Is(kept.err, context.Canceled) {
			return kept.known, kept.err
		}
	}
}

// enter returns the answer that is kept, or one that the caller must find.
func (c *Caller) enter(key string, now time.Time) (a *answer, ours bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a = c.kept[key]; a != nil && (a.until.IsZero() || now.Before(a.until)) {
		return a, false
	}
	if len(c.kept) >= maxKept {
		for k, old := range c.kept {
			if !old.until.IsZero() {
				delete(c.kept, k)
			}
		}
	}
	a = &answer{done: make(chan struct{})}
	c.kept[key] = a
	return a, true
}

func (c *Caller) settle(key string, a *answer, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.known, a.err = known, err
	a.until = time.Now().Add(noCounts)
	switch {
	case err != nil:
		delete(c.kept, key)
	case known:
		a.until = time.Now().Add(yesCounts)
	}
	close(a.done)
}

// Offers returns what the next hop of a domain offered when it was asked last,
// within the hour.
func (c *Caller) Offers(d mail.Domain) (o guard.Offer, heard bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, heard := c.offers[d.ASCII()]
	if heard && time.Now().After(kept.until) {
		delete(c.offers, d.ASCII())
		heard = false
	}
	return kept.Offer, heard
}

// hear remembers what the next hop of a domain offers.
func (c *Caller) hear(d mail.Domain, hello mail.Reply) (o guard.Offer) {
	for _, line := range hello.Lines[1:] {
		keyword, args, _ := strings.Cut(line, " ")
		switch strings.ToUpper(keyword) {
		case "SMTPUTF8":
			o.UTF8 = true
		case "8BITMIME":
			o.EightBit = true
		case "SIZE":
			o.Size, _ = strconv.ParseInt(strings.TrimSpace(args), 10, 64) // what is no number is no limit
			o.Size = max(o.Size, 0)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.offers) >= maxKept {
		clear(c.offers)
	}
	c.offers[d.ASCII()] = offer{o, time.Now().Add(yesCounts)}
	return o
}

// ask has one conversation: the null reverse-path, since the answer must not
// depend on who writes, and no message.
func (c *Caller) ask(ctx context.Context, a mail.Address) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the next hop of %s did not answer in %s", a.Domain(), patience))
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	hop, err := c.Hop(a.Domain())
	if err != nil {
		return false, err
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, hop.Network, hop.Address)
	if err != nil {
		return false, fmt.Errorf("next hop of %s: %w", a.Domain(), err)
	}
	defer conn.Close()
	raw := smtp.NewRaw(conn, nil)
	hello := "EHLO "
	if hop.LMTP {
		hello = "LHLO "
	}
	var r mail.Reply
	lines := []string{"", hello + c.Name, "MAIL FROM:<>", "RCPT TO:" + mail.ForwardTo(a).String()}
	for i, line := range lines {
		if i > 0 {
			if err := raw.Write(ctx, []byte(line+"\r\n")); err != nil {
				return false, fmt.Errorf("next hop of %s: %w", a.Domain(), err)
			}
		}
		if r, err = raw.Reply(ctx); err != nil {
			return false, fmt.Errorf("next hop of %s: %w", a.Domain(), err)
		}
		if !r.Positive() && i < 3 {
			return false, fmt.Errorf("next hop of %s refused %q: %s", a.Domain(), line, r)
		}
		if i != 1 {
			continue
		}
		offers := c.hear(a.Domain(), r)
		switch {
		case !a.NeedsUTF8():
		case !offers.UTF8:
			return true, nil // it cannot be asked, and the guard refuses what it does not offer
		default:
			lines[2] += " SMTPUTF8"
		}
	}
	_ = raw.Write(ctx, []byte("QUIT\r\n")) // the answer is here already
	switch {
	case r.Positive():
		return true, nil
	case r.Permanent() && !r.AboutCommand():
		return false, nil
	}
	return false, fmt.Errorf("next hop of %s: %s", a.Domain(), r)
}
