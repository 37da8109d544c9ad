package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/spf13/pflag"

	"postern/check"
	"postern/collect"
	"postern/internal/resolve"
	"postern/mail"
)

// collectorFlags say where proof arrives.
type collectorFlags struct {
	domain, listen, zone, zoneListen string
	addresses                        []string
	ports                            []uint16
	standIns                         map[uint16]uint16 // in the lab: which port stands for each of the further ones, 0 for any that is free
	url, secret                      string
	imap, imapUser, imapSecret       string
	mailbox                          string
	imapFixed                        bool
	stateFolder                      string
}

func (f *collectorFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.domain, "collector", "", "`DOMAIN` whose mail reaches us; without one, nothing can prove a server open")
	fl.StringVar(&f.listen, "collector-listen", "", "`ADDR:PORT` where that mail arrives (default: port 25 of every address)")
	fl.StringSliceVar(&f.addresses, "collector-address", nil, "`ADDR` of ours as others see it, for the zone (default: that of --collector-listen)")
	fl.Var((*portList)(&f.ports), "collector-ports", "further `PORT` of the collector, or a list with commas: tells proxies that shut port 25 from others (default: 443,465,587 where they are free, if mail arrives at port 25)")
	fl.StringVar(&f.zone, "zone", "", "zone `NAME` that we serve ourselves: makes the target a backup MX of ours")
	fl.StringVar(&f.zoneListen, "zone-listen", "", "`ADDR:PORT` of our name server, UDP and TCP (default: port 53 beside the collector)")
	fl.StringVar(&f.stateFolder, "collector-state", "", "`FOLDER` that keeps arrivals over a restart")
	fl.StringVar(&f.url, "collector-url", "", "`URL` of a `postern collect` elsewhere, instead of a collector of our own")
	fl.StringVar(&f.secret, "collector-secret", "", "`FILE` of the secret that it shares with us")
	fl.StringVar(&f.imap, "imap", "", "`HOST:PORT` of an IMAP server with a mailbox of yours, instead of a collector")
	fl.StringVar(&f.imapUser, "imap-user", "", "`NAME` to log in with")
	fl.StringVar(&f.imapSecret, "imap-password", "", "`FILE` of its password")
	fl.StringVar(&f.mailbox, "imap-address", "", "`ADDRESS` of the mailbox; user+token@domain must reach it too")
	fl.BoolVar(&f.imapFixed, "imap-fixed", false, "the mailbox knows no user+token; send to its address alone")
}

// preset fills what was not given.
func (f *collectorFlags) preset(domain, listen, zone string) {
	for _, p := range []struct {
		to    *string
		value string
	}{{&f.domain, domain}, {&f.listen, listen}, {&f.zone, domain}, {&f.zoneListen, zone}} {
		if *p.to == "" {
			*p.to = p.value
		}
	}
}

// A source is where a check's proof arrives; the zero source is none.
type source struct {
	collector check.Collector
	listen    netip.AddrPort    // of a collector of our own
	ports     map[uint16]uint16 // further ports of that collector, each for the one that it stands for
	zoneAddr  netip.AddrPort
	zone      *collect.Zone
	lasting   bool                                      // the collector goes on when we are done
	address   netip.Addr                                // of a collector elsewhere
	backup    func(netip.Addr, mail.Domain) mail.Domain // names tests in the zone of a collector elsewhere
	oneFamily func(six bool) mail.Domain                // the same of a family alone
	stop      func()                                    // ends what start began, and waits
}

func (s *source) apply(o *check.Options) {
	if s.collector == nil {
		return
	}
	o.Collector, o.Lasting = s.collector, s.lasting
	if a := s.listen.Addr(); a.IsValid() && !a.IsUnspecified() {
		o.CollectorIP = a
	}
	if s.address.IsValid() {
		o.CollectorIP = s.address
	}
	o.Backup, o.OneFamily = s.backup, s.oneFamily
	if s.zone != nil {
		o.Backup, o.OneFamily = s.zone.BackupNameOf, s.zone.OneFamily
	}
}

// backupIn names the tests in a zone.
func backupIn(zone mail.Domain) func(netip.Addr, mail.Domain) mail.Domain {
	return func(a netip.Addr, host mail.Domain) mail.Domain { return collect.BackupNameOf(zone, a, host) }
}

// start begins whatever the flags name. The resolver may be nil.
func (f *collectorFlags) start(ctx context.Context, r *resolve.Resolver) (*source, error) {
	switch {
	case f.url != "":
		return f.startRemote(ctx, r)
	case f.imap != "":
		return f.startMailbox(ctx, r)
	case f.domain == "" && f.zone == "":
		return &source{stop: func() {}}, nil
	}
	return f.startLocal(ctx, r)
}

func (f *collectorFlags) startLocal(ctx context.Context, r *resolve.Resolver) (*source, error) {
	s := &source{}
	if f.domain == "" {
		f.domain = f.zone
	}
	domain, err := mail.ParseDomain(f.domain)
	if err != nil {
		return nil, usage("--collector: %w", err)
	}
	config := collect.Config{Domain: domain, State: f.stateFolder}
	if r != nil {
		config.Resolver = r
	}
	listener, err := listenTCP(f.listen, 25, "--collector-listen")
	if err != nil {
		return nil, err
	}
	config.Listeners = []net.Listener{listener}
	s.listen = tcpAddr(listener.Addr())
	if f.listen != "" {
		config.Reach = []netip.AddrPort{reachable(s.listen)}
	}
	if err := f.listenPorts(s.listen, &config); err != nil {
		return nil, errors.Join(err, closeAll(config.Listeners))
	}
	s.ports = config.Ports
	var packets net.PacketConn
	var names net.Listener
	if f.zone != "" {
		if packets, names, err = f.listenZone(s, &config); err != nil {
			return nil, errors.Join(err, closeAll(config.Listeners))
		}
	}
	local, err := collect.NewLocal(config)
	if err != nil {
		return nil, errors.Join(err, closeAll(config.Listeners))
	}
	s.collector = local
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { complain(local.Run(ctx)) })
	if s.zone != nil {
		wg.Go(func() { complain(s.zone.Run(ctx, packets, names)) })
	}
	s.stop = func() { cancel(); wg.Wait() }
	return s, nil
}

// proxyPorts are those that proxies lead to when they shut port 25: the web's,
// and those of submission (RFC 8314, RFC 6409).
var proxyPorts = []uint16{443, 465, 587}

// listenPorts adds the further ports of the collector. Those that nobody asked
// for are taken where they are free.
func (f *collectorFlags) listenPorts(mail netip.AddrPort, config *collect.Config) error {
	ports, asked := f.ports, len(f.ports) > 0
	if !asked && (f.standIns != nil || mail.Port() == 25) {
		ports = proxyPorts
	}
	config.Ports = map[uint16]uint16{}
	for _, port := range ports {
		at := port
		if standIn, ok := f.standIns[port]; ok {
			at = standIn
		}
		l, err := listenTCP(netip.AddrPortFrom(mail.Addr(), at).String(), port, "--collector-ports")
		if err != nil && asked {
			return err
		}
		if err == nil {
			config.Listeners = append(config.Listeners, l)
			config.Ports[port] = tcpAddr(l.Addr()).Port()
		}
	}
	return nil
}

func closeAll(list []net.Listener) error {
	var errs []error
	for _, l := range list {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// complain says on standard error what ended a server that should have gone on.
func complain(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "postern:", err)
	}
}

func (f *collectorFlags) listenZone(s *source, config *collect.Config) (net.PacketConn, net.Listener, error) {
	var err error
	if config.Zone, err = mail.ParseDomain(f.zone); err != nil {
		return nil, nil, usage("--zone: %w", err)
	}
	at := f.zoneListen
	if at == "" {
		at = netip.AddrPortFrom(s.listen.Addr(), 53).String()
	}
	names, err := listenTCP(at, 53, "--zone-listen")
	if err != nil {
		return nil, nil, err
	}
	s.zoneAddr = tcpAddr(names.Addr())
	packets, err := net.ListenPacket("udp", names.Addr().String())
	if err != nil {
		return nil, nil, errors.Join(listenError(err, names.Addr().String(), "--zone-listen"), names.Close())
	}
	addresses, err := f.ownAddresses(s.listen.Addr())
	if err == nil {
		config.Addresses = addresses
		s.zone, err = collect.NewZone(config.Zone, config.Domain, addresses, "")
	}
	if err != nil {
		return nil, nil, errors.Join(err, names.Close(), packets.Close())
	}
	return packets, names, nil
}

// ownAddresses are where the zone says that the collector is.
func (f *collectorFlags) ownAddresses(listen netip.Addr) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, text := range f.addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usage("--collector-address: %w", err)
		}
		all = append(all, a.Unmap())
	}
	if len(all) > 0 {
		return all, nil
	}
	if !listen.IsUnspecified() {
		return []netip.Addr{listen.Unmap()}, nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, each := range own {
		if n, ok := each.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap().IsGlobalUnicast() {
				all = append(all, a.Unmap())
			}
		}
	}
	return all, nil
}

// listenTCP listens on ADDR:PORT, on ADDR alone, or on every address.
func listenTCP(at string, port uint16, flag string) (net.Listener, error) {
	if at == "" {
		at = fmt.Sprintf(":%d", port)
	} else if a, err := netip.ParseAddr(at); err == nil {
		at = netip.AddrPortFrom(a, port).String()
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, listenError(err, at, flag)
	}
	return l, nil
}

func listenError(err error, at, flag string) error {
	e := &exit{code: exitService, err: fmt.Errorf("%s %s: %w", flag, at, err)}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.help = "another program listens there (ss -ltnp shows which); stop it, or choose another place with " + flag
	case errors.Is(err, syscall.EACCES):
		e.help = "ports below 1024 need root, or once: setcap cap_net_bind_service=+ep $(command -v postern)"
	}
	return e
}

func tcpAddr(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// reachable is how this machine reaches what listens at a.
func reachable(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsUnspecified() {
		return a
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())
}
