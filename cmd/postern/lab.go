package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/check"
	"postern/door"
	"postern/internal/problem"
	"postern/internal/resolve"
	"postern/lab"
	"postern/open"
)

// Where the lab and `postern check --lab` meet.
const (
	labPort      = 2501
	labCollector = "127.0.0.1:2499"
	labZone      = "127.0.0.1:2453"
)

// labPorts stand for further ports of the collector: a proxy that shuts port
// 25 shows there that it leads strangers elsewhere.
var labPorts = map[uint16]uint16{443: 2496, 465: 2497, 587: 2498}

func labCommand() *cobra.Command {
	var only []string
	var judge, list, asJSON bool
	var port uint16
	c := &cobra.Command{
		Use:   "lab",
		Short: "every kind of open relay and decoy, on loopback",
		Long: `Lab runs careless mail servers, proxies and forwarded ports, each open in its
own way, and decoys that fool testers. All listen on loopback only; what they
take they hand to the collector on loopback and to nobody else, and to nowhere
else do the proxies lead.

With --check the lab judges itself: every specimen is checked, and the verdict
must be the one that it deserves.`,
		Example: `  # judge every specimen
  postern lab --check

  # only those, to attack by hand
  postern lab --only open,percent-hack`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := knownSpecimens(only); err != nil {
				return err
			}
			switch {
			case list:
				return listSpecimens(c.OutOrStdout(), asJSON)
			case judge:
				return judgeLab(c.Context(), c.OutOrStdout(), newLive(c.ErrOrStderr(), true), only)
			}
			return runLab(c.Context(), c.OutOrStdout(), port, only)
		},
	}
	c.Flags().BoolVar(&judge, "check", false, "judge all specimens and print the score")
	c.Flags().BoolVar(&asJSON, "json", false, "with --list: print JSON")
	c.Flags().BoolVar(&list, "list", false, "print what there is and stop")
	c.Flags().StringSliceVar(&only, "only", nil, "only the specimens `NAME`; may be repeated")
	c.Flags().Uint16Var(&port, "port", labPort, "`PORT` of the first specimen; the others follow")
	return c
}

// knownSpecimens refuses names that the lab does not have.
func knownSpecimens(only []string) error {
	var names []string
	for _, s := range lab.Specimens() {
		names = append(names, s.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			help := problem.Meant(name, names)
			if strings.HasPrefix(help, "there are") {
				help = "`postern lab --list` shows all"
			}
			return usage("no specimen is called %q; %s", name, help)
		}
	}
	return nil
}

// A specimenFact is a specimen as JSON has it.
type specimenFact struct {
	Specimen string `json:"specimen"`
	Verdict  string `json:"verdict"` // the one that it deserves
	Door     string `json:"door"`
	What     string `json:"what"`
}

func listSpecimens(w io.Writer, asJSON bool) error {
	if asJSON {
		facts := []specimenFact{}
		for _, s := range lab.Specimens() {
			facts = append(facts, specimenFact{s.Name, string(s.Want), s.Door.String(), s.What})
		}
		return printJSON(w, facts)
	}
	t := &table{w: w}
	for _, s := range lab.Specimens() {
		t.row(s.Name, string(s.Want), s.Door.String(), s.What)
	}
	return t.flush()
}

// runLab serves the specimens until it is told to stop.
func runLab(ctx context.Context, w io.Writer, port uint16, only []string) error {
	out := &lines{w: w}
	lookup, err := labLookup(labZone)
	if err != nil {
		return err
	}
	l, err := lab.New(lab.Options{
		Port: port, Collector: netip.MustParseAddrPort(labCollector), Ports: labPorts, Lookup: lookup, Only: only,
		Handed: func(name string, m open.Message, err error) {
			if err != nil {
				out.printf("%s\n", hanging(fmt.Sprintf("%s  %s: took a message from %s for %v; it went nowhere: %v", now(), name, m.From, m.To, err), 10))
				return
			}
			out.printf("%s\n", hanging(fmt.Sprintf("%s  %s: relayed a message from %s for %v to the collector", now(), name, m.From, m.To), 10))
		},
	})
	if err != nil {
		return &exit{code: exitService, err: err}
	}
	t := &table{w: w}
	t.row("ADDRESS", "SPECIMEN", "WHAT IT IS")
	for _, s := range l.Specimens {
		t.row(s.Target(), s.Name, s.What)
	}
	if err := t.flush(); err != nil {
		return &exit{code: exitIO, err: err}
	}
	out.printf("\nAll serve %s; the door is open to loopback only, and nothing leaves it.\n", lab.Domain)
	if len(l.Specimens) > 0 {
		out.printf("try   postern check --lab %s\n", strings.TrimSpace(l.Specimens[0].Flags+" "+l.Specimens[0].Target()))
	}
	if len(l.Specimens) > 0 && l.Specimens[0].Door == door.SMTP {
		out.printf("or    swaks --server %s --from a@far.example \\\n        --to b@elsewhere.example\n", l.Specimens[0].Addr)
	}
	if err := l.Run(ctx); err != nil {
		return &exit{code: exitService, err: err}
	}
	return nil
}

func now() string { return time.Now().Format("15:04:05") }

// labLookup finds the hosts of MX records through the zone that a check runs.
func labLookup(zone string) (func(context.Context, string) []netip.Addr, error) {
	r, err := resolve.New(resolve.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort(zone)}, Timeout: time.Second, Rounds: 1})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, domain string) []netip.Addr {
		hosts, err := r.Exchangers(ctx, domain)
		if err != nil {
			return nil
		}
		var all []netip.Addr
		for _, h := range hosts {
			if addrs, err := r.Addresses(ctx, h); err == nil {
				all = append(all, addrs...)
			}
		}
		return all
	}, nil
}

// presetLab sets what a check needs to know of the lab.
func (f *checkFlags) presetLab() {
	f.collector.preset(lab.Collector.String(), labCollector, labZone)
	f.collector.standIns = labPorts
	if f.domain == "" {
		f.domain = lab.Domain.String()
	}
	if f.relayDomain == "" {
		f.relayDomain = lab.RelayDomain.String()
	}
	if f.wait == check.DefaultWait {
		f.wait = labWait
	}
}

// labWait is long for a collector on the same machine.
const labWait = 8 * time.Second

// labPause is between two guessed logins, where no account is anybody's.
const labPause = 20 * time.Millisecond

// judgeLab runs every specimen and judges it, and prints the score.
func judgeLab(ctx context.Context, w io.Writer, live *live, only []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := collectorFlags{standIns: map[uint16]uint16{443: 0, 465: 0, 587: 0}}
	f.preset(lab.Collector.String(), "127.0.0.1:0", "127.0.0.1:0")
	source, err := f.start(ctx, nil)
	if err != nil {
		return unavailable(err, "")
	}
	defer source.stop()
	lookup, err := labLookup(source.zoneAddr.String())
	if err != nil {
		return err
	}
	l, err := lab.New(lab.Options{Collector: source.listen, Ports: source.ports, Lookup: lookup, Only: only})
	if err != nil {
		return usage("%w", err)
	}
	serving, stopServing := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() { complain(l.Run(serving)) })
	defer func() { stopServing(); served.Wait() }()
	o := check.Options{
		Domain: lab.Domain, RelayDomain: lab.RelayDomain, TryLogins: true, LoginPause: labPause, Wait: labWait, Timeout: 6 * time.Second, Helo: "tester.example",
		Resolver: labNames{},
	}
	source.apply(&o)
	o.Progress = newJudging(l, live).event
	results, err := lab.Check(ctx, l, o)
	live.end()
	if err != nil {
		return &exit{code: exitService, err: err}
	}
	return printScore(w, l, results)
}

// A judging tells a terminal how far the lab's own check is.
type judging struct {
	live *live

	mu   sync.Mutex
	left map[netip.AddrPort]string // the names of those that are not judged yet
	of   int
}

func newJudging(l *lab.Lab, live *live) *judging {
	j := &judging{live: live, left: map[netip.AddrPort]string{}, of: len(l.Specimens)}
	for _, s := range l.Specimens {
		j.left[s.Addr] = s.Name
	}
	return j
}

func (j *judging) event(e check.Event) {
	if e.Step != check.Judged {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.left, e.Addr)
	j.live.say(j.text())
}

// text says how many are judged, and names those that are waited for.
func (j *judging) text() string {
	names := slices.Sorted(maps.Values(j.left))
	text := fmt.Sprintf("%d of %d judged", j.of-len(names), j.of)
	if len(names) > 0 {
		text += "; waiting for " + strings.Join(names, ", ")
	}
	return text
}

func printScore(w io.Writer, l *lab.Lab, results []lab.Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SPECIMEN\tVERDICT\tPROVED BY\tTIME\t")
	right := 0
	for _, r := range results {
		mark := ""
		if r.Right() {
			right++
		} else {
			mark = strings.Join(strings.Fields(fmt.Sprintf("WRONG, should be %s %s %s: %s", r.Want, r.Form, r.Kind, r.Why)), " ")
		}
		v := string(r.Got)
		if r.GotBackscatter {
			v += ", backscatter"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, v, r.Proof, r.Took.Round(100*time.Millisecond), mark)
	}
	if err := t.Flush(); err != nil {
		return &exit{code: exitIO, err: err}
	}
	for _, s := range l.Skipped {
		fmt.Fprintln(w, "not shown:", s)
	}
	fmt.Fprintf(w, "\n%d of %d right\n", right, len(results))
	if right < len(results) {
		return &exit{code: exitSoftware}
	}
	return nil
}

// labNames resolves the one name that the lab uses.
type labNames struct{}

func (labNames) Addresses(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, nil
}

func (labNames) Exchangers(_ context.Context, domain string) ([]string, error) {
	return []string{domain}, nil
}
func (labNames) Names(context.Context, netip.Addr) ([]string, error) { return nil, nil }

// lines writes whole lines from many goroutines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format, args...)
}
