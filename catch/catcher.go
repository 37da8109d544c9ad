package catch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"postern/mail"
	"postern/open"
	"postern/smtp"
)

// Options say where the catcher stands.
type Options struct {
	SMTP   []netip.AddrPort // loopback addresses
	HTTP   netip.AddrPort   // a loopback address
	Keep   string           // a folder for the messages; "": memory
	Caught func(Message)    // told of each; nil: nobody
}

// A Catcher takes mail and shows it.
type Catcher struct {
	SMTP    []netip.AddrPort // where it listens
	HTTP    netip.AddrPort
	Skipped []string // addresses that this machine does not have, and why

	store  *store
	caught func(Message)
	doors  []net.Listener
	page   net.Listener
}

// NotLoopbackError is returned for an address that others could reach.
type NotLoopbackError struct{ Addr netip.AddrPort }

func (e *NotLoopbackError) Error() string {
	return fmt.Sprintf("%s is no loopback address: what takes everything from everybody stands nowhere else; name 127.0.0.1 or ::1", e.Addr)
}

// New opens the folder and the listeners; Run serves them and closes all.
func New(o Options) (*Catcher, error) {
	c := &Catcher{caught: o.Caught}
	if c.caught == nil {
		c.caught = func(Message) {}
	}
	for _, a := range append([]netip.AddrPort{o.HTTP}, o.SMTP...) {
		if !a.Addr().IsLoopback() {
			return nil, &NotLoopbackError{a}
		}
	}
	var err error
	if c.store, err = openStore(o.Keep); err != nil {
		return nil, err
	}
	if err := c.listen(o); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *Catcher) listen(o Options) error {
	for _, a := range o.SMTP {
		l, err := bind(a)
		if err != nil && a.Addr().Is6() && len(c.doors) > 0 {
			c.Skipped = append(c.Skipped, fmt.Sprintf("%s: %v", a, err))
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; choose another port with --listen", err)
		}
		c.doors = append(c.doors, l)
		c.SMTP = append(c.SMTP, at(l))
	}
	l, err := bind(o.HTTP)
	if err != nil {
		return fmt.Errorf("%w; choose another port with --page", err)
	}
	c.page, c.HTTP = l, at(l)
	return nil
}

func bind(a netip.AddrPort) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", a.String())
}

func at(l net.Listener) netip.AddrPort {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

func (c *Catcher) close() error {
	errs := []error{c.store.close()}
	for _, l := range c.doors {
		errs = append(errs, l.Close())
	}
	if c.page != nil {
		errs = append(errs, c.page.Close())
	}
	return errors.Join(errs...)
}

// limits are a developer's: a program under test may open many connections,
// send to many, and make every mistake.
var limits = smtp.Limits{Connections: 100, PerClient: 100, PerNetwork: -1, Errors: -1, AuthErrors: -1, Messages: -1, Recipients: 1000, Drain: 5 * time.Second}

// Run serves until ctx ends.
func (c *Catcher) Run(ctx context.Context) error {
	asked := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var g sync.WaitGroup
	server := open.SMTP{Name: "catch.localhost", Sink: c, AnyLogin: true, Limits: limits}
	for _, l := range c.doors {
		g.Go(func() { cancel(server.Run(ctx, l)) })
	}
	page := &http.Server{
		Handler: c.handler(ctx), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * mostWait, WriteTimeout: 2 * mostWait, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	g.Go(func() {
		if err := page.Serve(c.page); !errors.Is(err, http.ErrServerClosed) {
			cancel(err)
		}
	})
	<-ctx.Done()
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	_ = page.Shutdown(last) // who still reads by then is cut off
	g.Wait()
	if asked.Err() != nil {
		return c.store.close()
	}
	return errors.Join(context.Cause(ctx), c.store.close())
}

// Take keeps what the open server took. It goes nowhere else.
func (c *Catcher) Take(_ context.Context, m open.Message) error {
	from := ""
	if !m.From.Null() {
		from = m.From.Address().String()
	}
	kept, err := c.store.add(from, texts(m.To), m.Body)
	if err != nil {
		return err
	}
	c.caught(kept)
	return nil
}

func texts(list []mail.Address) []string {
	all := make([]string, 0, len(list))
	for _, a := range list {
		all = append(all, a.String())
	}
	return all
}
