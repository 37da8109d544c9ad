package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"postern/door"
	"postern/mail"
	"postern/plan"
	"postern/report"
	"postern/verdict"
)

// Run checks one target: every address of its name, every port that listens.
// It returns an error only when nothing could be begun because of the caller's
// own side; whatever the target does stands in the report.
func Run(ctx context.Context, t plan.Target, o Options) (report.Report, error) {
	c, err := Begin(ctx, o)
	if err != nil {
		return report.Report{}, err
	}
	defer c.Close()
	return c.Check(ctx, t)
}

// A Checker checks many targets with one set of options and one collector.
// It is safe for concurrent use.
type Checker struct {
	o     Options
	forms map[door.Door][]plan.Form // that are played, by door; a door without is not looked for
	front plan.Front
	watch *watch
	blind string

	places *places
	spools *spools
	stop   context.CancelFunc
	done   chan struct{}
}

// Begin prepares a checker; Close ends it. The collector is asked once
// whether arrivals can be seen; when they cannot, the checker works all the
// same and every report says so.
func Begin(ctx context.Context, o Options) (*Checker, error) {
	o = o.withDefaults()
	forms, err := choose(o)
	if err != nil {
		return nil, err
	}
	c := &Checker{o: o, forms: forms, watch: newWatch(o.Collector), done: make(chan struct{}), places: newPlaces(o.Parallel)}
	if o.Parallel > 1 {
		c.spools = &spools{}
	}
	switch {
	case o.Collector == nil:
		c.blind = "there is no collector"
	case o.Blind != "":
		c.blind = o.Blind
	default:
		if err := o.Collector.Preflight(ctx); err != nil {
			c.blind = err.Error()
		}
	}
	if f, ok := o.Collector.(Fronted); ok && c.blind == "" {
		// Without a front, forms say which part of it they lack.
		c.front, _ = f.Front(ctx)
	}
	watchCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() {
		defer close(c.done)
		c.watch.run(watchCtx)
	}()
	return c, nil
}

// Blind says why arrivals cannot be seen, or "".
func (c *Checker) Blind() string { return c.blind }

// Close waits until the checker has let go of the collector.
func (c *Checker) Close() {
	c.stop()
	<-c.done
}

// choose returns the forms that the options ask for, by door.
func choose(o Options) (map[door.Door][]plan.Form, error) {
	forms := make(map[door.Door][]plan.Form)
	for _, id := range o.Forms {
		f, ok := plan.Find(id)
		if !ok {
			return nil, fmt.Errorf("unknown form %q; did you mean %q?", id, plan.Nearest(id))
		}
		forms[f.Door] = append(forms[f.Door], f)
	}
	if len(forms) > 0 {
		return forms, nil
	}
	for _, f := range plan.All() {
		if looksFor(o, f.Door) && wants(o, f.Set) {
			forms[f.Door] = append(forms[f.Door], f)
		}
	}
	return forms, nil
}

func looksFor(o Options, d door.Door) bool {
	return len(o.Doors) == 0 || slices.Contains(o.Doors, d) || d == door.SMTP && slices.Contains(o.Doors, door.Forward)
}

func wants(o Options, s plan.Set) bool {
	switch s {
	case plan.Core:
		return true
	case plan.Login:
		return o.TryLogins && !o.Quick
	case plan.Inside:
		return o.Inside && !o.Quick
	case plan.Full, plan.Owner, plan.Info:
	}
	return !o.Quick
}

// Check checks one target.
func (c *Checker) Check(ctx context.Context, t plan.Target) (report.Report, error) {
	r := report.Report{Given: t.Given, Host: t.Host, Started: time.Now()}
	defer func() { r.Took = time.Since(r.Started) }()
	where, err := c.locate(ctx, t)
	if err != nil {
		r.Failure = err.Error()
		return r, nil
	}
	if err := c.allowed(ctx, t, where); err != nil {
		return r, err
	}
	r.Addresses = make([]report.Address, len(where.addrs))
	place := c.places.newPlace()
	defer place.end()
	where.dial, where.spool = place.dialer(c.o.Dial), c.spools.newSpool()
	var wg sync.WaitGroup
	for i, a := range where.addrs {
		wg.Go(func() { r.Addresses[i] = c.address(ctx, t, where, a) })
	}
	wg.Wait()
	r.Took = time.Since(r.Started)
	return r, nil
}

// address checks the ports of one address, one after the other: they belong
// to one machine, whose patience with us is one.
func (c *Checker) address(ctx context.Context, t plan.Target, w located, a netip.Addr) report.Address {
	result := report.Address{IP: a, Ports: c.ports(t)}
	p := newPace(a, c.o.Pace)
	k := knock(ctx, w.dial, a, result.Ports)
	defer k.end()
	for _, number := range result.Ports {
		doors, err := c.port(ctx, w, netip.AddrPortFrom(a, number), p, k)
		if errors.Is(err, errShut) {
			result.Shut = append(result.Shut, number)
			continue
		}
		if err != nil {
			why := verdict.Evidence{Addr: netip.AddrPortFrom(a, number), NotTested: err.Error()}
			doors = []report.Door{{Door: door.SMTP, Judgement: verdict.Judge(why)}}
		}
		result.Doors = append(result.Doors, doors...)
	}
	return result
}

// ports returns the ports to knock at: those that were named, else those of
// every door that is looked for.
func (c *Checker) ports(t plan.Target) []uint16 {
	switch {
	case len(t.Ports) > 0:
		return t.Ports
	case len(c.o.Ports) > 0:
		return c.o.Ports
	}
	var list []uint16
	for _, d := range door.All() {
		if len(c.forms[d]) == 0 {
			continue
		}
		for _, number := range d.Ports() {
			if !slices.Contains(list, number) {
				list = append(list, number)
			}
		}
	}
	return list
}

// candidates returns the doors that a port may be, the likeliest first. Where
// nothing is known of a port it may be a mail server, which speaks first; only
// when it does not is a proxy looked for.
func (c *Checker) candidates(number uint16) []door.Door {
	var usual, others []door.Door
	for _, d := range []door.Door{door.SMTP, door.SOCKS, door.Connect} {
		switch {
		case len(c.forms[d]) == 0:
		case slices.Contains(d.Ports(), number):
			usual = append(usual, d)
		default:
			others = append(others, d)
		}
	}
	switch {
	case len(usual) == 0:
		return others
	case usual[0] == door.SMTP:
		return usual
	}
	// Many proxies speak SOCKS and HTTP at one port. Mail servers there would be odd.
	others = slices.DeleteFunc(others, func(d door.Door) bool { return d == door.SMTP })
	return append(usual, others...)
}

// port checks one port: as the door that it is, or as both when it is two.
func (c *Checker) port(ctx context.Context, w located, a netip.AddrPort, pace *pace, k *knocks) ([]report.Door, error) {
	dial := k.dialer(w.dial, a)
	doors := c.candidates(a.Port())
	if len(doors) > 0 && doors[0] != door.SMTP {
		return c.proxies(ctx, w, a, pace, dial, doors)
	}
	p := c.newPort(door.SMTP, w, a, pace, dial)
	if others := slices.DeleteFunc(doors, func(d door.Door) bool { return d == door.SMTP }); len(others) > 0 {
		p.silent = func(ctx context.Context) sniffed {
			found, _ := p.sniff(ctx, others) // who is stopped here is stopped at once again
			found.doors = slices.DeleteFunc(found.doors, func(d door.Door) bool { return d == door.SMTP })
			return found
		}
	}
	d, err := c.mailServer(ctx, p)
	var other *otherDoorError
	if errors.As(err, &other) {
		return c.proxiesFound(ctx, w, a, pace, dial, other.found)
	}
	if err != nil {
		return nil, err
	}
	return []report.Door{d}, nil
}

// newPort makes the check of one door at one port.
func (c *Checker) newPort(d door.Door, w located, a netip.AddrPort, pace *pace, dial func(context.Context) (net.Conn, error)) *port {
	p := &port{o: &c.o, addr: a, dial: dial, pace: pace, forms: c.forms[d], watch: c.watch, spool: w.spool}
	p.evidence.Door, p.evidence.Addr, p.evidence.Blind = d, a, c.blind
	p.facts = plan.Facts{
		Addr: a.Addr(), CollectorIP: c.o.CollectorIP, Sender: c.o.From, Front: c.front.For(a.Addr()),
		Host: firstDomain(c.o.Host, w.host), Domain: firstDomain(c.o.Domain, w.domain),
		Local: c.o.Recipient, RelayDomain: c.o.RelayDomain, Partner: c.o.Partner,
	}
	if !p.facts.Local.IsZero() && p.facts.Domain.IsZero() {
		p.facts.Domain = p.facts.Local.Domain()
	}
	for _, d := range []mail.Domain{c.o.Host, w.host, c.o.Domain, w.domain, p.facts.Domain} {
		p.names.given = add(p.names.given, d)
	}
	if !w.host.IsZero() {
		p.evidence.Names = []string{w.host.ASCII()}
	}
	return p
}

func (c *Checker) mailServer(ctx context.Context, p *port) (report.Door, error) {
	defer func() { c.watch.forget(p.tokens) }()
	if err := p.run(ctx); err != nil {
		return report.Door{}, err
	}
	j := p.clues(ctx, p.families(ctx, p.await(ctx)))
	return c.judged(p, j), nil
}

func (c *Checker) judged(p *port, j verdict.Judgement) report.Door {
	if (j.Verdict == verdict.Accepts || j.Sure == verdict.Likely) && c.o.Lasting { // what it kept may still come out
		j.Until = time.Now().Add(tokenLife)
	}
	p.o.Progress(Event{Addr: p.addr, Door: p.evidence.Door, Step: Judged, Text: string(j.Verdict)})
	return report.Door{Door: p.evidence.Door, Judgement: j}
}

func firstDomain(list ...mail.Domain) mail.Domain {
	for _, d := range list {
		if !d.IsZero() {
			return d
		}
	}
	return mail.Domain{}
}

// located is where a target is.
type located struct {
	addrs  []netip.Addr
	host   mail.Domain // its name, when one was given
	domain mail.Domain // the mail domain that led to it, when one was given

	dial  dialFunc
	spool *spool
}

// locate finds the addresses of the target. The name of a mail domain stands
// for the hosts of its MX records.
func (c *Checker) locate(ctx context.Context, t plan.Target) (located, error) {
	if a, err := netip.ParseAddr(t.Host); err == nil {
		return located{addrs: []netip.Addr{a.Unmap()}}, nil
	}
	name, err := mail.ParseDomain(t.Host)
	if err != nil {
		return located{}, err
	}
	if c.o.Resolver == nil {
		return located{}, fmt.Errorf("%s does not resolve: there is no resolver", t.Host)
	}
	w := located{host: name}
	hosts := []string{name.ASCII()}
	if mx, err := c.o.Resolver.Exchangers(ctx, name.ASCII()); err == nil && len(mx) > 0 && (len(mx) > 1 || mx[0] != name.ASCII()) {
		w.domain, hosts = name, mx
		if w.host, err = mail.ParseDomain(mx[0]); err != nil || len(mx) > 1 {
			w.host = mail.Domain{}
		}
	}
	var firstErr error
	for _, host := range hosts {
		addrs, err := c.o.Resolver.Addresses(ctx, host)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		for _, a := range addrs {
			if a = a.Unmap(); c.family(a) && !slices.Contains(w.addrs, a) {
				w.addrs = append(w.addrs, a)
			}
		}
	}
	if len(w.addrs) == 0 {
		return located{}, fmt.Errorf("%s has no address to test: %w", t.Host, orNone(firstErr))
	}
	return w, nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("none of the wanted family")
	}
	return err
}

func (c *Checker) family(a netip.Addr) bool {
	if len(c.o.Families) == 0 {
		return true
	}
	if a.Is4() {
		return slices.Contains(c.o.Families, 4)
	}
	return slices.Contains(c.o.Families, 6)
}
