package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"postern/collect"
	"postern/mail"
	"postern/verdict"
)

// collectFlags are the words of `postern collect`.
type collectFlags struct {
	collectorFlags
	resolver, contact, secretFile    string
	apiListen, apiTLSCert, apiTLSKey string
	inside                           []string
	json                             bool
}

func collectCommand() *cobra.Command {
	f := &collectFlags{}
	c := &cobra.Command{
		Use:   "collect --collector DOMAIN",
		Short: "the other end of a check: where proof arrives",
		Long: `Collect takes the messages that prove a server open, and nothing else: a
recipient must carry a live token of this collector, all other mail is refused
with 550. It keeps headers, never contents.

With --zone it is also the name server of its own zone, which makes a tested
server a backup MX of ours. With --api-listen checks on other machines use it,
with the secret in --secret-file: postern check --collector-url URL
--collector-secret FILE.`,
		Example: `  # in a closed network: mail, names and API on one address
  postern collect --collector probe.example --collector-listen 192.0.2.66:25 \
    --zone probe.example --zone-listen 192.0.2.66:53 --state /var/lib/postern-collect

  # on loopback, to look at
  postern collect --collector probe.example --collector-listen 127.0.0.1:2525`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runCollect(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.domain, "collector", "", "`DOMAIN` whose mail reaches us")
	fl.StringVar(&f.domain, "domain", "", "`DOMAIN`: another word for --collector")
	fl.StringVar(&f.listen, "collector-listen", "", "`ADDR:PORT` where that mail arrives (default: port 25 of every address)")
	fl.Var((*portList)(&f.ports), "collector-ports", "further `PORT` of the collector, or a list with commas, such as 443,465,587: tells proxies that shut port 25 from others")
	fl.StringVar(&f.zone, "zone", "", "zone `NAME` that we serve ourselves")
	fl.StringVar(&f.zoneListen, "zone-listen", "", "`ADDR:PORT` of our name server, UDP and TCP (default: port 53 beside the collector)")
	fl.StringSliceVar(&f.addresses, "address", nil, "`ADDR` of ours as others see it (default: that of --collector-listen)")
	fl.StringSliceVar(&f.inside, "zone-inside", nil, "`NETWORK` of yours, such as 10.0.0.0/8, whose private addresses the names of tests may point at")
	fl.StringVar(&f.resolver, "resolver", "", "`ADDR:PORT` of the DNS server that names the peers (default: the system's)")
	fl.StringVar(&f.apiListen, "api-listen", "", "`ADDR:PORT` where checks on other machines ask")
	fl.StringVar(&f.apiTLSCert, "api-tls-cert", "", "`FILE` of the certificate of the API; without one it listens on loopback only")
	fl.StringVar(&f.apiTLSKey, "api-tls-key", "", "`FILE` of its key")
	fl.StringVar(&f.secretFile, "secret-file", "", "`FILE` of the secret, made when it is missing (default: in --state)")
	fl.StringVar(&f.stateFolder, "state", "", "`FOLDER` that keeps arrivals over a restart")
	fl.StringVar(&f.contact, "contact", "", "`TEXT` for who finds a probe and asks: said in refusals and in the zone")
	fl.BoolVar(&f.json, "json", false, "print each arrival as a JSON object")
	return c
}

// A collecting is what `postern collect` runs.
type collecting struct {
	local    *collect.Local
	listener net.Listener

	zone    *collect.Zone
	packets net.PacketConn
	names   net.Listener

	api         *collect.API
	apiListener net.Listener
	apiTLS      *tls.Config
}

func runCollect(ctx context.Context, out, notes io.Writer, f *collectFlags) error {
	var c collecting
	if err := c.prepare(out, notes, f); err != nil {
		c.close()
		return err
	}
	c.describe(notes, f)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, 3)
	var wg sync.WaitGroup
	start := func(i int, run func() error) {
		wg.Go(func() {
			defer cancel()
			errs[i] = run()
		})
	}
	start(0, func() error { return c.local.Run(ctx) })
	if c.zone != nil {
		start(1, func() error { return c.zone.Run(ctx, c.packets, c.names) })
	}
	if c.api != nil {
		start(2, func() error { return c.api.Run(ctx, c.apiListener, c.apiTLS) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return &exit{code: exitService, err: err}
	}
	return nil
}

// prepare opens all that is to be served.
func (c *collecting) prepare(out, notes io.Writer, f *collectFlags) error {
	if f.domain == "" {
		f.domain = f.zone
	}
	domain, err := mail.ParseDomain(f.domain)
	if err != nil {
		return usage("--collector DOMAIN must name the domain whose mail reaches us: %w", err)
	}
	config := collect.Config{Domain: domain, State: f.stateFolder, Contact: f.contact}
	resolver, err := openResolver(f.resolver)
	if err != nil {
		return err
	}
	config.Resolver = resolver
	secret, err := f.secret()
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	config.Secret = []byte(secret)
	if c.listener, err = listenTCP(f.listen, 25, "--collector-listen"); err != nil {
		return err
	}
	config.Listeners = []net.Listener{c.listener}
	smtp := tcpAddr(c.listener.Addr())
	if len(f.ports) > 0 { // none but those asked for: a collector stays, and others may want the usual ones
		if err := f.listenPorts(smtp, &config); err != nil {
			return err
		}
	}
	if config.Addresses, err = f.ownAddresses(smtp.Addr()); err != nil {
		return err
	}
	if f.zone != "" {
		if err := c.prepareZone(&config, f, smtp); err != nil {
			return err
		}
	}
	show := arrivalPrinter(out, f.json)
	config.Arrived = func(a verdict.Arrival) { complain(show(a)) }
	config.Failed = func(err error) { fmt.Fprintln(notes, "postern:", err) }
	if c.local, err = collect.NewLocal(config); err != nil {
		return &exit{code: exitIO, err: err}
	}
	if f.apiListen == "" {
		return nil
	}
	about := collect.About{Addresses: config.Addresses}
	if smtp.Port() != 25 && !smtp.Addr().IsUnspecified() {
		about.SMTP = []netip.AddrPort{smtp}
	}
	return c.prepareAPI(f, secret, about)
}

// secret is the one in the file, or none when nothing must outlive the process.
func (f *collectFlags) secret() (string, error) {
	path := f.secretFile
	switch {
	case path != "":
	case f.stateFolder != "":
		if err := os.MkdirAll(f.stateFolder, 0o700); err != nil {
			return "", err
		}
		path = filepath.Join(f.stateFolder, "secret")
	case f.apiListen != "":
		return "", errors.New("--api-listen needs a secret that its clients have too; name its file: --secret-file FILE")
	default:
		return "", nil
	}
	return collect.MakeSecret(path)
}

func (c *collecting) prepareZone(config *collect.Config, f *collectFlags, smtp netip.AddrPort) error {
	var err error
	if config.Zone, err = mail.ParseDomain(f.zone); err != nil {
		return usage("--zone: %w", err)
	}
	if c.zone, err = collect.NewZone(config.Zone, config.Domain, config.Addresses, f.contact); err != nil {
		return usage("%w", err)
	}
	for _, text := range f.inside {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return usage("--zone-inside: %q is no network; write it as 10.0.0.0/8", text)
		}
		c.zone.Inside = append(c.zone.Inside, network.Masked())
	}
	at := f.zoneListen
	if at == "" {
		at = smtp.Addr().String()
	}
	if c.names, err = listenTCP(at, 53, "--zone-listen"); err != nil {
		return err
	}
	if c.packets, err = net.ListenPacket("udp", c.names.Addr().String()); err != nil {
		return listenError(err, c.names.Addr().String(), "--zone-listen")
	}
	return nil
}

func (c *collecting) prepareAPI(f *collectFlags, secret string, about collect.About) error {
	var err error
	if (f.apiTLSCert == "") != (f.apiTLSKey == "") {
		return usage("--api-tls-cert and --api-tls-key belong together")
	}
	if f.apiTLSCert != "" {
		files := &certificateFiles{cert: f.apiTLSCert, key: f.apiTLSKey}
		if _, err := files.get(nil); err != nil {
			return &exit{code: exitIO, err: fmt.Errorf("--api-tls-cert: %w", err)}
		}
		c.apiTLS = &tls.Config{GetCertificate: files.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	if c.apiListener, err = listenTCP(f.apiListen, 8443, "--api-listen"); err != nil {
		return err
	}
	if at := tcpAddr(c.apiListener.Addr()); c.apiTLS == nil && !at.Addr().IsLoopback() {
		return usage("--api-listen %s would show the secret to all on the way; give --api-tls-cert and --api-tls-key, or a loopback address", at)
	}
	if c.api, err = collect.NewAPI(c.local, secret, about); err != nil {
		return usage("--secret-file: %w", err)
	}
	return nil
}

// close lets go of what was opened before something failed.
func (c *collecting) close() {
	for _, each := range []io.Closer{c.listener, c.names, c.packets, c.apiListener} {
		if each != nil {
			each.Close()
		}
	}
}

// describe says what runs, on standard error: standard output has arrivals only.
func (c *collecting) describe(w io.Writer, f *collectFlags) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(w, "postern collect")
	line("mail", "%s at %s; only recipients with a live token", c.local.Domain(), c.listener.Addr())
	if c.zone != nil {
		line("zone", "%s at %s, UDP and TCP; the collector is %v", c.zone.Name, c.names.Addr(), c.zone.Addresses)
	}
	if c.api != nil {
		scheme := "http"
		if c.apiTLS != nil {
			scheme = "https"
		}
		line("api", "%s://%s", scheme, c.apiListener.Addr())
	}
	if f.stateFolder != "" {
		line("state", "%s", f.stateFolder)
	} else {
		line("state", "none; what arrives is forgotten at the end (--state FOLDER keeps it)")
	}
}

func arrivalPrinter(w io.Writer, asJSON bool) func(verdict.Arrival) error {
	if asJSON {
		enc := json.NewEncoder(w)
		return func(a verdict.Arrival) error { return enc.Encode(a) }
	}
	return func(a verdict.Arrival) error {
		_, err := fmt.Fprintln(w, arrivalLine(a))
		return err
	}
}

// arrivalLine is one arrival for a person; what a stranger chose stands so
// that it can be nothing but text.
func arrivalLine(a verdict.Arrival) string {
	from := a.Peer.Addr().Unmap().String()
	if a.PTR != "" {
		from += " (" + plainText(a.PTR) + ")"
	}
	words := []string{a.At.Local().Format(time.DateTime), fmt.Sprintf("%-7s", a.Kind), string(a.Tokens[0]), "from", from, "helo", plainText(a.Helo)}
	if a.TLS != "" {
		words = append(words, a.TLS)
	}
	return strings.Join(append(words, "to", plainText(a.ForwardPath)), " ")
}

// plainText is a stranger's text without anything that a terminal would obey.
func plainText(s string) string {
	const most = 200
	cut := s[:min(len(s), most)]
	if quoted := strconv.QuoteToASCII(cut); quoted[1:len(quoted)-1] != cut {
		cut = quoted
	}
	if len(s) > most {
		cut += "..."
	}
	return cut
}

// certificateFiles is a certificate that is read again when its file changes,
// as renewals do without telling.
type certificateFiles struct {
	cert, key string

	mu       sync.Mutex
	current  *tls.Certificate
	modified time.Time
}

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.cert)
	if err == nil && (f.current == nil || !info.ModTime().Equal(f.modified)) {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(f.cert, f.key); err == nil {
			f.current, f.modified = &pair, info.ModTime()
		}
	}
	if f.current != nil {
		return f.current, nil // the old one is better than none
	}
	return nil, err
}
