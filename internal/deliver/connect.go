package deliver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/netop"
	"postern/internal/queue"
	"postern/mail"
	"postern/smtp"
)

// A link is a connection on which EHLO was answered, TLS made and a login
// accepted, as its route wants it. One job at a time has it.
type link struct {
	way    Route
	host   Host
	key    string // of its like
	addr   netip.AddrPort
	client *smtp.Client
	tls    string
	used   int       // messages
	since  time.Time // when it became idle

	slow   mail.Reply // what the server said when it wanted fewer of us
	broken bool       // by a transaction of which something was said
}

func (l *link) close() { _ = l.client.Close() }

// recipients is how many the server takes at once, where it says so (RFC 9422).
func (l *link) recipients() int {
	args, _ := l.client.Extension("LIMITS")
	for _, word := range strings.Fields(strings.ToUpper(args)) {
		if n, err := strconv.Atoi(strings.TrimPrefix(word, "RCPTMAX=")); err == nil {
			return n
		}
	}
	return 0
}

func (l *link) via(took time.Duration) queue.Via {
	return queue.Via{Host: l.host.Name, Addr: l.addr, TLS: l.tls, Took: took}
}

// connect returns a link to a host: an idle one, unless it must be fresh.
func (d *Deliverer) connect(ctx context.Context, way Route, h Host, fresh bool) (*link, *trouble) {
	key := way.identity(h)
	if !fresh {
		if l := d.pool.get(key); l != nil {
			return l, nil
		}
	}
	began := time.Now()
	l := &link{way: way, host: h, key: key}
	plain := d.peers.plain(key, began)
	for {
		conn, t := d.reach(ctx, way, h)
		if t != nil {
			return nil, t
		}
		l.addr = netop.AddrPort(conn.RemoteAddr())
		err := d.greet(ctx, l, conn, plain)
		if err == nil {
			if l.tls != "" {
				d.peers.hadTLS(key)
			}
			return l, nil
		}
		_ = conn.Close()
		if errors.Is(err, errHandshake) && way.TLS == May && !plain {
			plain = true // RFC 7435 section 3: rather in clear than not at all
			d.peers.onlyPlain(key, began)
			continue
		}
		return nil, session(err, l.via(time.Since(began)))
	}
}

// session is the trouble of a session that came to no transaction. It may
// always be tried again: a banner of 554 says what a server does to us now, and
// a login that is refused is ours to mend.
func session(err error, via queue.Via) *trouble {
	t := &trouble{note: err.Error(), via: via, health: dead}
	var said *smtp.ReplyError
	if errors.As(err, &said) {
		t.reply, t.note = said.Reply, ""
		if said.Doing != "banner" {
			t.note = "at " + said.Doing
		}
		if t.health = dead; said.Reply.Transient() {
			t.health = busy
		}
	}
	return t
}

// errHandshake is a STARTTLS that the server agreed to and that failed.
var errHandshake = errors.New("TLS handshake failed")

// greet brings a connection to where a transaction can begin.
func (d *Deliverer) greet(ctx context.Context, l *link, conn net.Conn, plain bool) error {
	way := &l.way
	config := d.tls[way.TLS]
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = l.host.Name
	}
	var state *tls.ConnectionState
	implicit := l.host.Port == 465 && way.TLS != None
	if implicit { // RFC 8314 section 3.3
		c := tls.Client(conn, config)
		if err := c.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("%w: %w", errHandshake, err)
		}
		s := c.ConnectionState()
		conn, state = c, &s
	}
	// The client knows of the TLS that it made itself only.
	o := smtp.ClientOptions{Timeouts: d.o.Timeouts, LMTP: way.LMTP, PlainAuth: implicit}
	if d.peers.chunkless(l.key, time.Now()) {
		o.Without = []string{"CHUNKING"}
	}
	client, err := smtp.NewClient(ctx, conn, o)
	if err != nil {
		return err
	}
	l.client = client
	if err := client.Hello(ctx, cmp.Or(way.Helo, d.o.Routes().Hostname.ASCII())); err != nil {
		return err
	}
	if !implicit && way.TLS != None && !plain && l.host.Network != "unix" {
		if err := protect(ctx, client, config, way.TLS); err != nil {
			return err
		}
	}
	if state = cmp.Or(state, client.TLS()); state != nil {
		l.tls = tls.VersionName(state.Version)
		if way.TLS == Verify {
			l.tls += " verified"
		}
	}
	if way.User != "" {
		return client.Auth(ctx, way.User, string(way.Pass))
	}
	return nil
}

// protect makes TLS as far as the policy wants it and the server can.
func protect(ctx context.Context, c *smtp.Client, config *tls.Config, policy TLSPolicy) error {
	if _, offered := c.Extension("STARTTLS"); !offered {
		if policy == May {
			return nil
		}
		return errors.New("5.7.10 the server offers no TLS, and the route wants it")
	}
	err := c.StartTLS(ctx, config)
	var said *smtp.ReplyError
	if errors.As(err, &said) {
		if policy == May && said.Doing == "STARTTLS" {
			return nil // RFC 3207 section 4: 454, and the session goes on
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	return nil
}

// reach opens a connection to one of a host's addresses.
func (d *Deliverer) reach(ctx context.Context, way Route, h Host) (net.Conn, *trouble) {
	if h.Network == "unix" {
		conn, err := d.o.Dial(ctx, netip.Addr{}, "unix", h.Name)
		if err != nil {
			return nil, &trouble{note: err.Error(), via: queue.Via{Host: h.Name}, health: dead}
		}
		return conn, nil
	}
	list, t := d.addresses(ctx, way, h)
	if t != nil {
		t.via = queue.Via{Host: h.Name}
		return nil, t
	}
	list = list[:min(len(list), mostAddresses)]
	conn, err := d.race(ctx, way, list, h.Port)
	if err != nil {
		return nil, &trouble{note: "4.4.1 " + err.Error(), via: queue.Via{Host: h.Name, Addr: netip.AddrPortFrom(list[0], h.Port)}, health: dead}
	}
	return conn, nil
}

const (
	mostAddresses  = 5                      // of one host, in one attempt
	connectLimit   = 30 * time.Second       // for one address
	connectStagger = 250 * time.Millisecond // RFC 8305 section 5
)

// race connects to the first address that answers: the next is begun when one
// failed or has not answered for a moment (RFC 8305).
func (d *Deliverer) race(ctx context.Context, way Route, list []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(list))
	begin := func(a netip.Addr) {
		go func() {
			conn, err := d.dial(ctx, way, netip.AddrPortFrom(a, port))
			results <- result{conn, err}
		}()
	}
	var errs []error
	begun, ended := 0, 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ended < len(list) {
		var next <-chan time.Time
		if begun < len(list) {
			next = timer.C
		}
		select {
		case <-next:
			begin(list[begun])
			begun++
			timer.Reset(connectStagger)
		case r := <-results:
			ended++
			if r.err == nil {
				cancel()
				go func() { // close those that come too late
					for ; ended < begun; ended++ {
						if late := <-results; late.conn != nil {
							_ = late.conn.Close()
						}
					}
				}()
				return r.conn, nil
			}
			errs = append(errs, r.err)
			if begun < len(list) {
				timer.Reset(0)
			}
		}
	}
	return nil, errors.Join(errs...)
}

// dial connects to one address, unless it just failed for somebody else.
func (d *Deliverer) dial(ctx context.Context, way Route, to netip.AddrPort) (net.Conn, error) {
	direct := way.Proxy.Host.Name == "" // what a proxy does says nothing of who is behind it
	if err := d.peers.down(to, time.Now()); direct && err != nil {
		return nil, err
	}
	from := netip.Addr{}
	if pool := slices.DeleteFunc(slices.Clone(way.Source), func(a netip.Addr) bool { return a.Is4() != to.Addr().Is4() }); len(pool) > 0 {
		from = pool[int(chance()*float64(len(pool)))%len(pool)]
	}
	limited, cancel := context.WithTimeoutCause(ctx, connectLimit, fmt.Errorf("no answer in %s", connectLimit))
	defer cancel()
	var conn net.Conn
	var err error
	if !direct {
		conn, err = d.reachThrough(limited, way.Proxy, from, to)
	} else {
		conn, err = d.o.Dial(limited, from, "tcp", to.String())
	}
	if err != nil && ctx.Err() == nil {
		if limited.Err() != nil {
			err = fmt.Errorf("connect to %s: %w", to, context.Cause(limited))
		}
		if direct {
			d.peers.failed(to, err, time.Now())
		}
	}
	return conn, err
}

// dialer is the machine's own way.
func dialer(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, network, address)
}
