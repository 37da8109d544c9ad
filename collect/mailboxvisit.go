package collect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

const (
	imapPatience = time.Minute // for one command
	// lookBack is how far before the start messages are looked at, for what
	// came while nobody looked: a queue gives up after five days.
	lookBack = 6 * 24 * time.Hour
	// maxLook bounds how many messages are looked at, the latest ones.
	maxLook = 2000
	// fetchAtOnce bounds what one FETCH brings.
	fetchAtOnce = 50
)

// visit is one connection: it looks at what is new until something fails or
// ctx ends.
func (m *Mailbox) visit(ctx context.Context) error {
	fresh := make(chan struct{}, 1)
	c, err := m.login(ctx, func() {
		select {
		case fresh <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer hangUp(c)
	// Closing ends every command that waits, when ctx ends or one is too slow.
	defer context.AfterFunc(ctx, func() { hangUp(c) })()
	if err := m.open(c); err != nil {
		return err
	}
	m.set(nil)
	for {
		if err := m.look(c); err != nil {
			return err
		}
		if err := m.rest(ctx, c, fresh); err != nil {
			return err
		}
	}
}

// hangUp closes the connection; it may have gone before.
func hangUp(c *imapclient.Client) { _ = c.Close() }

// bounded runs one command, and closes the connection when it takes too long.
func bounded(c *imapclient.Client, command func() error) error {
	t := time.AfterFunc(imapPatience, func() { hangUp(c) })
	err := command()
	if !t.Stop() && err != nil {
		return fmt.Errorf("no answer within %s: %w", imapPatience, err)
	}
	return err
}

func (m *Mailbox) login(ctx context.Context, fresh func()) (*imapclient.Client, error) {
	host, port, err := net.SplitHostPort(m.c.Server)
	if err != nil {
		return nil, err
	}
	conn, err := m.c.Dial(ctx, "tcp", m.c.Server)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if m.c.TLS != nil {
		cfg = m.c.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	o := &imapclient.Options{TLSConfig: cfg, UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				fresh()
			}
		},
	}}
	c, err := m.secure(ctx, conn, port, o)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := bounded(c, func() error { return c.Login(m.c.User, m.c.Password).Wait() }); err != nil {
		hangUp(c)
		return nil, fmt.Errorf("%s does not let %s in: %w", m.c.Server, m.c.User, err)
	}
	return c, nil
}

// secure makes TLS, without which no password is sent but over loopback.
func (m *Mailbox) secure(ctx context.Context, conn net.Conn, port string, o *imapclient.Options) (*imapclient.Client, error) {
	switch {
	case port == "993":
		t := tls.Client(conn, o.TLSConfig)
		handshake, cancel := context.WithTimeout(ctx, imapPatience)
		defer cancel()
		if err := t.HandshakeContext(handshake); err != nil {
			return nil, fmt.Errorf("TLS with %s: %w", m.c.Server, err)
		}
		return imapclient.New(t, o), nil
	case loopback(m.c.Server) && m.c.TLS == nil:
		return imapclient.New(conn, o), nil
	}
	t := time.AfterFunc(imapPatience, func() { conn.Close() })
	defer t.Stop()
	c, err := imapclient.NewStartTLS(conn, o)
	if err != nil {
		return nil, fmt.Errorf("%s makes no TLS, and without it no password is sent: %w", m.c.Server, err)
	}
	return c, nil
}

// open selects the folder for reading only.
func (m *Mailbox) open(c *imapclient.Client) error {
	var selected *imap.SelectData
	err := bounded(c, func() (err error) {
		selected, err = c.Select(m.c.Folder, &imap.SelectOptions{ReadOnly: true}).Wait()
		return err
	})
	if err != nil {
		return fmt.Errorf("the folder %q does not open: %w", m.c.Folder, err)
	}
	// RFC 3501 section 2.3.1.1: with another UIDVALIDITY the numbers mean other messages.
	if name := strconv.FormatUint(uint64(selected.UIDValidity), 10); name != m.name {
		m.name, m.last = name, 0
	}
	return nil
}

// look fetches what came since the last look.
func (m *Mailbox) look(c *imapclient.Client) error {
	want := &imap.SearchCriteria{}
	if m.last == 0 {
		want.Since = m.begun.Add(-lookBack)
	} else {
		want.UID = []imap.UIDSet{{imap.UIDRange{Start: imap.UID(m.last + 1), Stop: 0}}}
	}
	var found *imap.SearchData
	err := bounded(c, func() (err error) {
		found, err = c.UIDSearch(want, nil).Wait()
		return err
	})
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	// n:* always names the last message, also when it is older than n.
	uids := slices.DeleteFunc(found.AllUIDs(), func(u imap.UID) bool { return uint32(u) <= m.last })
	slices.Sort(uids)
	uids = uids[max(0, len(uids)-maxLook):]
	for part := range slices.Chunk(uids, fetchAtOnce) {
		if err := m.fetch(c, part); err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		m.last = uint32(part[len(part)-1])
	}
	return nil
}

// rest waits until the server says that something came, or it is time to look.
func (m *Mailbox) rest(ctx context.Context, c *imapclient.Client, fresh <-chan struct{}) error {
	patience, idle := m.c.Every, (*imapclient.IdleCommand)(nil)
	if c.Caps().Has(imap.CapIdle) {
		var err error
		if idle, err = c.Idle(); err != nil {
			return err
		}
		// Some servers forget to tell; and an untold end of the connection is
		// noticed by asking.
		patience = 6 * m.c.Every
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-fresh:
	case <-t.C:
	case <-c.Closed():
		return errors.New("the server closed the connection")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if idle != nil {
		return bounded(c, func() error { return errors.Join(idle.Close(), idle.Wait()) })
	}
	return bounded(c, func() error { return c.Noop().Wait() })
}
