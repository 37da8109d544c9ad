package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/check"
	"postern/door"
	"postern/internal/resolve"
	"postern/mail"
	"postern/plan"
)

// checkFlags are the words of the command line as they were given.
type checkFlags struct {
	collector collectorFlags
	resolver  string

	server                                        []string
	ports                                         []uint16
	host, domain, recipient, relayDomain, partner string
	helo, from, note                              string
	forms                                         []string
	quick, tryLogins, iOwn, prove, four, six      bool
	inside                                        bool
	doors                                         []string
	lab, json, one                                bool
	wait, timeout, pace                           time.Duration
	sessions, parallel                            int
	junit, sarif, transcript, targets, proofFile  string
	listForms                                     bool
	logins                                        string
}

func checkCommand() *cobra.Command {
	f := &checkFlags{}
	c := &cobra.Command{
		Use:   "check [flags] TARGET...",
		Short: "test whether strangers' mail leaves through a host, and prove it",
		Long: `Check plays a battery of envelopes that a mail server must refuse, from the
point of view of a stranger, and asks proxies to lead it to the collector. What
is taken anyway carries a token there; only a token that arrives makes a host
OPEN.

A target is a name, an address, or either with :port. The name of a mail domain
stands for the hosts of its MX records. Without a port, the usual ports of mail
servers, SOCKS and web proxies are tried, once each; --door names one kind. Only
this machine's own addresses are tested without more ado; for any other say
--i-own, or prove it (--prove).

Of several targets each is reported when it is decided. --parallel says how many
are spoken with at once; those that are only waited for do not count.

Exit code: 0 closed, 1 open, 2 doubtful, 3 could not be tested, 64 usage, 77 not
yours to test; of several targets the worst: open before doubtful before not
tested before closed.`,
		Example: `  # is the server of the lab that relays for anybody found? (postern lab runs beside)
  postern check --lab 127.0.0.1:2501

  # a server of mine; mail for probe.example.net reaches this machine's port 25
  postern check mx.example.org --i-own --collector probe.example.net`,
		RunE: func(c *cobra.Command, args []string) error { return runCheck(c, f, args) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	f.collector.add(fl)
	fl.StringVar(&f.resolver, "resolver", "", "`ADDR:PORT` of the DNS server to ask (default: the system's)")
	fl.StringArrayVarP(&f.server, "server", "s", nil, "a `TARGET`, as in swaks; may be repeated")
	fl.Var((*portList)(&f.ports), "port", "`PORT` to test; may be repeated, or a list with commas")
	fl.StringSliceVar(&f.doors, "door", nil, "look only for the door `NAME`: smtp, socks, forward, connect; may be repeated")
	fl.StringVar(&f.host, "host", "", "the server's own `NAME`, where its banner does not say")
	fl.StringVar(&f.domain, "domain", "", "a `NAME` that the server serves, where its banner does not say")
	fl.StringVar(&f.recipient, "recipient", "", "a mailbox `ADDRESS` that the server must accept (default: postmaster)")
	fl.StringVar(&f.relayDomain, "relay-domain", "", "a `NAME` that the server relays for, as a backup or a gateway")
	fl.StringVar(&f.partner, "partner", "", "a `DOMAIN` that the server may trust, as that of a customer; nothing is sent to it")
	fl.StringVar(&f.helo, "helo", "", "our `NAME` in EHLO (default: this machine's)")
	fl.StringVarP(&f.from, "from", "f", "", "our sender `ADDRESS` (default: one at the collector, so that notices come back)")
	fl.BoolVar(&f.quick, "quick", false, "play the core and the controls alone")
	fl.StringSliceVar(&f.forms, "form", nil, "play only the form `ID`; may be repeated (--list-forms shows all)")
	fl.BoolVar(&f.listForms, "list-forms", false, "print every form and stop")
	fl.BoolVar(&f.tryLogins, "try-logins", false, "also try logins that anybody could guess: twelve, at most four wrong passwords at each account, two seconds apart")
	fl.StringVar(&f.logins, "logins", "", "try the logins in `FILE` instead, a line USER:PASSWORD for each; their passwords are shown nowhere")
	fl.BoolVar(&f.inside, "inside", false, "also ask proxies for port 25 of their own machine")
	fl.BoolVarP(&f.four, "ipv4", "4", false, "IPv4 only")
	fl.BoolVarP(&f.six, "ipv6", "6", false, "IPv6 only")
	fl.DurationVar(&f.wait, "wait", check.DefaultWait, "`TIME` to wait for arrivals, and for a server that puts us off")
	fl.DurationVar(&f.timeout, "timeout", 60*time.Second, "`TIME` to wait for one reply")
	fl.DurationVar(&f.pace, "pace", check.DefaultPace, "`TIME` between two sessions with one target outside the local network")
	fl.IntVar(&f.sessions, "sessions", check.DefaultSessions, "sessions side by side with one target")
	fl.BoolVar(&f.iOwn, "i-own", false, "the target is mine, or I have its owner's order to test it")
	fl.BoolVar(&f.prove, "prove", false, "print the TXT record that proves a target mine, and stop")
	fl.StringVar(&f.proofFile, "proof-secret", "", "`FILE` of the secret behind such records (default: in the state folder)")
	fl.StringVar(&f.targets, "targets", "", "`FILE` with a target on each line, - for standard input; each needs its proof")
	fl.IntVar(&f.parallel, "parallel", 50, "targets spoken with side by side; one that is only waited for holds no place")
	fl.StringVar(&f.note, "note", "", "a `TEXT` of one line in the probes: who tests, and how to reach them")
	fl.BoolVar(&f.lab, "lab", false, "the target stands in postern lab: presets its collector, zone and domain")
	fl.BoolVar(&f.json, "json", false, "print JSON, one object for each address")
	fl.BoolVar(&f.one, "one", false, "with --json: one object for each target, the worst")
	fl.StringVar(&f.junit, "junit", "", "write JUnit XML to `FILE` (- for standard output)")
	fl.StringVar(&f.sarif, "sarif", "", "write SARIF to `FILE` (- for standard output)")
	fl.StringVar(&f.transcript, "transcript", "", "print the conversation of `FORM`, or of all")
	return c
}

// portList is a flag of ports, repeated or with commas.
type portList []uint16

func (p *portList) String() string {
	var words []string
	for _, n := range *p {
		words = append(words, strconv.Itoa(int(n)))
	}
	return strings.Join(words, ",")
}
func (p *portList) Type() string { return "PORT" }
func (p *portList) Set(s string) error {
	for _, word := range strings.Split(s, ",") {
		t, err := plan.ParseTarget("x:" + strings.TrimSpace(word))
		if err != nil {
			return fmt.Errorf("%q is no port; a port is a number from 1 to 65535", word)
		}
		*p = append(*p, t.Ports...)
	}
	return nil
}

func runCheck(c *cobra.Command, f *checkFlags, args []string) error {
	if f.listForms {
		return printForms(c.OutOrStdout(), f.json)
	}
	targets, listed, err := f.allTargets(args)
	if err != nil {
		return err
	}
	if f.prove {
		return f.printProofs(c.OutOrStdout(), targets)
	}
	if f.lab {
		f.presetLab()
	}
	o, resolver, err := f.options(listed)
	if err != nil {
		return err
	}
	if f.lab && f.resolver == "" {
		o.Resolver = labNames{} // many machines know localhost by one family alone
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	source, err := f.collector.start(ctx, resolver)
	if err != nil {
		return unavailable(err, "check without a collector to see only what the server accepts")
	}
	defer source.stop()
	source.apply(&o)
	live := newLive(c.ErrOrStderr(), f.json)
	o.Progress, o.Parallel = live.event, min(f.parallel, len(targets))
	checker, err := check.Begin(ctx, o)
	if err != nil {
		return usage("%w", err)
	}
	defer checker.Close()
	s := f.stream(c, live)
	err = s.checkAll(ctx, checker, targets, f.parallel)
	live.end()
	if err != nil {
		return err
	}
	if err := f.document(c.OutOrStdout(), s.kept); err != nil {
		return &exit{code: exitIO, err: err}
	}
	return &exit{code: s.code}
}

// unavailable is the exit for a service that is not there, unless err is an
// exit of its own.
func unavailable(err error, help string) error {
	var own *exit
	if errors.As(err, &own) {
		return own
	}
	return &exit{code: exitService, err: err, help: help}
}

// allTargets returns the targets of the arguments, of --server and of the
// list; listed says that some came from a list.
func (f *checkFlags) allTargets(args []string) (targets []plan.Target, listed bool, err error) {
	words := append(append([]string{}, f.server...), args...)
	if f.targets != "" {
		lines, err := readLines(f.targets)
		if err != nil {
			return nil, false, &exit{code: exitIO, err: err}
		}
		words, listed = append(words, lines...), true
	}
	if len(words) == 0 {
		return nil, false, usage("no target; give the name or the address of a mail server, or try: postern lab --check")
	}
	var errs []error
	for _, w := range words {
		t, err := plan.ParseTarget(w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		targets = append(targets, t)
	}
	if len(errs) > 0 {
		return nil, false, &exit{code: exitUsage, err: errors.Join(errs...)}
	}
	return targets, listed, nil
}

// options turns the words into options; the resolver is among them, and is
// returned besides for the collector.
func (f *checkFlags) options(listed bool) (check.Options, *resolve.Resolver, error) {
	o := check.Options{
		Ports: f.ports, Forms: f.forms, Quick: f.quick, TryLogins: f.tryLogins, Owned: f.iOwn && !listed, Listed: listed,
		Helo: f.helo, Wait: f.wait, Timeout: f.timeout, Pace: f.pace, Sessions: f.sessions, Note: f.note,
	}
	if f.wait <= 0 || f.timeout <= 0 || f.sessions < 1 || f.parallel < 1 || f.pace < 0 {
		return o, nil, usage("--wait, --timeout, --sessions and --parallel must be more than nothing")
	}
	o.Inside = f.inside
	if f.lab {
		o.LoginPause = labPause
	}
	if err := f.readLogins(&o); err != nil {
		return o, nil, err
	}
	for _, name := range f.doors {
		d, err := door.Parse(name)
		if err != nil {
			return o, nil, usage("--door: %w", err)
		}
		o.Doors = append(o.Doors, d)
	}
	if strings.ContainsAny(f.note, "\r\n") || strings.HasPrefix(f.note, ".") {
		return o, nil, usage("--note is one line that does not begin with a full stop")
	}
	if f.four != f.six {
		o.Families = []int{4}
		if f.six {
			o.Families = []int{6}
		}
	}
	var err error
	for _, d := range []struct {
		to   *mail.Domain
		text string
		flag string
	}{{&o.Host, f.host, "--host"}, {&o.Domain, f.domain, "--domain"}, {&o.RelayDomain, f.relayDomain, "--relay-domain"}, {&o.Partner, f.partner, "--partner"}} {
		if d.text == "" {
			continue
		}
		if *d.to, err = mail.ParseDomain(d.text); err != nil {
			return o, nil, usage("%s: %w", d.flag, err)
		}
	}
	if f.recipient != "" {
		if o.Recipient, err = mail.ParseAddress(f.recipient); err != nil {
			return o, nil, usage("--recipient: %w", err)
		}
	}
	if f.from != "" {
		a, err := mail.ParseAddress(f.from)
		if err != nil {
			return o, nil, usage("--from: %w", err)
		}
		o.From = mail.ReverseTo(a)
	}
	if o.Helo == "" {
		o.Helo = ownName()
	}
	r, err := openResolver(f.resolver)
	if err != nil {
		return o, nil, err
	}
	o.Resolver = r
	if o.ProofSecret, err = proofSecret(f.proofFile, false); err != nil {
		return o, nil, &exit{code: exitIO, err: err}
	}
	return o, r, nil
}

// readLogins reads the caller's own logins.
func (f *checkFlags) readLogins(o *check.Options) error {
	if f.logins == "" {
		return nil
	}
	file, err := os.Open(f.logins)
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	defer file.Close()
	o.TryLogins = true
	if o.Logins, err = plan.ReadLogins(file); err != nil {
		return usage("--logins %s: %w", f.logins, err)
	}
	return nil
}

// ownName is this machine's name when it can stand in EHLO, else a name that
// says what we are.
func ownName() string {
	name, err := os.Hostname()
	if err == nil && strings.Contains(name, ".") {
		if d, err := mail.ParseDomain(name); err == nil && !d.NeedsUTF8() {
			return d.ASCII()
		}
	}
	return "postern-check.invalid"
}

func openResolver(server string) (*resolve.Resolver, error) {
	if server == "" {
		r, err := resolve.System()
		if err != nil {
			return nil, &exit{code: exitService, err: err, help: "name a DNS server with --resolver ADDR:PORT"}
		}
		return r, nil
	}
	at, err := netip.ParseAddrPort(server)
	if err != nil {
		return nil, usage("--resolver %q is no ADDR:PORT: %w", server, err)
	}
	return resolve.At(at)
}
