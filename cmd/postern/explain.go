package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/internal/identity"
	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
	"postern/serve"
)

func explainCommand() *cobra.Command {
	var p place
	var from, helo, sender, auth, listener string
	var recipients []string
	var plain, asJSON bool
	c := &cobra.Command{
		Use:   "explain --from ADDR --mail-from PATH --rcpt PATH...",
		Short: "show why a session is let in or not, and by which line",
		Long: `Explain plays a whole session in thought: each decision that the relay would
make, and the line of the configuration that makes it. It takes the same way
through the policy as the relay does, and sends nothing.

Exit code: 0 when every recipient would be granted, 1 when one is refused.`,
		Example: `  # a stranger who wants to relay
  postern explain --from 198.51.100.7 --mail-from a@far.example --rcpt b@elsewhere.example

  # a user of ours
  postern explain --from 198.51.100.7 --auth anna --mail-from anna@example.org --rcpt b@far.example`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			pol, err := p.policy(c)
			if err != nil {
				return err
			}
			q := question{listener: listener, auth: auth, helo: helo, tls: !plain}
			if path, err := p.folder(); err == nil {
				err := asOwner(path, func() (err error) {
					if readable(path) {
						q.suspended, err = serve.Suspended(path)
					}
					return err
				})
				if err != nil {
					return badConfig(c.ErrOrStderr(), err)
				}
			}
			if err := q.parse(pol, from, sender, recipients); err != nil {
				return err
			}
			list := q.explain(pol)
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(jsonOf(list, q.to))
			}
			q.print(c.OutOrStdout(), pol, list)
			for _, e := range list {
				if e.Refusal != nil {
					return &exit{code: exitOpen}
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&from, "from", "", "`ADDR` of the client")
	f.StringVar(&helo, "helo", "client.example", "its `NAME` in EHLO")
	f.StringVar(&sender, "mail-from", "", "reverse-path `ADDRESS`; <> for the null path")
	f.StringArrayVar(&recipients, "rcpt", nil, "forward-path `ADDRESS`; may be repeated")
	f.StringVar(&auth, "auth", "", "`USER` that has logged in")
	f.StringVar(&listener, "listener", "", "`NAME` of the listener (default: mx, or submission with --auth)")
	f.BoolVar(&plain, "no-tls", false, "without TLS")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
}

// policy compiles the configuration as the relay would, with the users of the
// state where it can be read.
func (p *place) policy(c *cobra.Command) (*policy.Policy, error) {
	pol, err := p.compile()
	if fatal, _ := problem.Split(err); fatal != nil {
		return nil, badConfig(c.ErrOrStderr(), fatal)
	}
	return pol, nil
}

// compile is policy, with all problems as they were found.
func (p *place) compile() (*policy.Policy, error) {
	settings, err := p.settings()
	if err != nil {
		return nil, err
	}
	source := settings.Policy
	source.Around = serve.Around()
	if path, err := p.folder(); err == nil {
		err := asOwner(path, func() error {
			if _, err := os.Stat(filepath.Join(path, "users.json")); err != nil {
				return nil //nolint:nilerr // there are none, or none for us to see
			}
			store, err := identity.Open(path)
			if err == nil {
				source.Users = serve.WithStored(source.Users, store)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return policy.Compile(source)
}

// readable reports whether we may look into a state folder.
func readable(path string) bool {
	_, err := os.ReadDir(path)
	return err == nil
}

// A question is a session that did not take place.
type question struct {
	listener, auth, helo string
	tls                  bool
	addr                 netip.Addr
	from                 mail.ReversePath
	to                   []mail.ForwardPath
	suspended            []serve.Suspension // by the relay of the state folder
}

func (q *question) parse(p *policy.Policy, from, sender string, recipients []string) error {
	var err error
	if q.addr, err = netip.ParseAddr(from); err != nil {
		return usage("--from: %q is no address; write it as 198.51.100.7", from)
	}
	if q.from, err = mail.ParseReversePath(bracketed(sender)); err != nil {
		return usage("--mail-from: %w", err)
	}
	if len(recipients) == 0 {
		return usage("--rcpt is missing; name a recipient")
	}
	for _, r := range recipients {
		to, err := mail.ParseForwardPath(bracketed(r))
		if err != nil {
			return usage("--rcpt: %w", err)
		}
		q.to = append(q.to, to)
	}
	if q.listener == "" {
		q.listener = likely(p, q.auth != "", q.addr)
	}
	var names []string
	for _, l := range p.Source().Listeners {
		if l.Name == q.listener {
			q.tls = q.tls && (l.Role == policy.Submissions || q.auth != "")
			return nil
		}
		names = append(names, l.Name)
	}
	return usage("no listener is called %q; there are: %s", q.listener, strings.Join(names, ", "))
}

// likely picks the listener that such a client would use.
func likely(p *policy.Policy, login bool, a netip.Addr) string {
	wanted := []policy.Role{policy.MX}
	switch {
	case login:
		wanted = []policy.Role{policy.Submission, policy.Submissions}
	case p.TrustedBy(a) != "":
		wanted = []policy.Role{policy.Trusted, policy.MX}
	}
	for _, role := range wanted {
		for _, l := range p.Source().Listeners {
			if l.Role == role {
				return l.Name
			}
		}
	}
	return ""
}

func bracketed(s string) string {
	if strings.HasPrefix(s, "<") {
		return s
	}
	return "<" + s + ">"
}

func (q *question) explain(p *policy.Policy) []policy.Explanation {
	var list []policy.Explanation
	_, suspended := q.doubt(p)
	for _, to := range q.to {
		list = append(list, p.Explain(policy.Client{Listener: q.listener, Addr: q.addr, TLS: q.tls, Identity: q.auth, Suspended: suspended}, q.from, to))
	}
	return list
}

// doubt is why the client is trusted no more, if it is so.
func (q *question) doubt(p *policy.Policy) (serve.Suspension, bool) {
	for _, s := range q.suspended {
		if s.Client == p.TrustedBy(q.addr) {
			return s, true
		}
	}
	return serve.Suspension{}, false
}

func (q *question) print(w io.Writer, p *policy.Policy, list []policy.Explanation) {
	class := p.ClassOf(q.addr)
	fmt.Fprintf(w, "connect  %s -> %s   class %q   %s\n", q.addr, q.listener, class.Who, class.At)
	fmt.Fprintf(w, "EHLO     %s   no weight: a name that anybody can give\n", q.helo)
	if q.auth != "" {
		fmt.Fprintf(w, "AUTH     %s\n", q.auth)
	}
	if s, ok := q.doubt(p); ok {
		_ = printSuspended(w, []serve.Suspension{s}) // as the lines around it
	}
	fmt.Fprintf(w, "MAIL     %s\n", q.from)
	for i, e := range list {
		fmt.Fprintf(w, "RCPT     %s\n", q.to[i])
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, s := range e.Steps {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", s.Rule, s.Asks, s.Found, s.At)
		}
		_ = t.Flush()
		if e.Refusal != nil {
			fmt.Fprintf(w, "  %s\n", e.Refusal.Reply())
			continue
		}
		fmt.Fprintf(w, "  250 granted: %s   %s\n", e.Grant, e.Grant.Origin())
		for _, d := range e.Grant.Goes() {
			if !d.To.Equal(q.to[i].Address()) {
				fmt.Fprintf(w, "      goes to %s\n", d.To)
			}
		}
	}
}

// explained is what is decided of one recipient.
type explained struct {
	To      string          `json:"to"`
	Granted bool            `json:"granted"`
	Reason  string          `json:"reason,omitempty"`
	At      string          `json:"at,omitempty"` // the line that decided
	Reply   string          `json:"reply,omitempty"`
	Steps   []explainedStep `json:"steps"`
}

// explainedStep is one question on the way there.
type explainedStep struct {
	Command string `json:"command"`
	Rule    string `json:"rule,omitempty"`
	Asks    string `json:"asks,omitempty"`
	Found   string `json:"found,omitempty"`
	Source  string `json:"source,omitempty"`
	At      string `json:"at,omitempty"`
	Refused bool   `json:"refused,omitempty"`
}

func jsonOf(list []policy.Explanation, to []mail.ForwardPath) []explained {
	all := make([]explained, 0, len(list))
	for i, e := range list {
		x := explained{To: to[i].String(), Steps: make([]explainedStep, 0, len(e.Steps))}
		for _, s := range e.Steps {
			x.Steps = append(x.Steps, explainedStep{s.Command, s.Rule, s.Asks, s.Found, s.Source, line(s.At), s.Refused})
		}
		if e.Refusal != nil {
			x.Reply, x.At = e.Refusal.Reply().String(), line(e.Refusal.At)
		} else {
			x.Granted, x.Reason, x.At = true, e.Grant.String(), line(e.Grant.Origin())
		}
		all = append(all, x)
	}
	return all
}

// line writes a line of the configuration; "": none.
func line(at problem.Pos) string {
	if at.IsZero() {
		return ""
	}
	return at.String()
}

func proveCommand() *cobra.Command {
	var p place
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "prove",
		Short: "prove over every class of input that no stranger is relayed",
		Long: `Prove tries every input that the policy can tell apart: listener, class of
client addresses, TLS, identity, kind of sender, kind of recipient. It prints the
result and, with --out, writes it as a file that others can check.

Exit code: 0 closed, 1 when a stranger's mail would be relayed, 78 configuration.`,
		Example: `  # the configuration in force
  postern prove

  # as evidence, in a pipeline
  postern prove --config postern.hcl --out proof.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			pol, err := p.policy(c)
			if err != nil {
				return err
			}
			if asJSON {
				out = "-"
			}
			return printProof(c.OutOrStdout(), pol.Prove(), out)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the proof as JSON, as --out - does")
	c.Flags().StringVar(&out, "out", "", "write the proof as JSON to `FILE` (- for standard output alone)")
	p.add(c)
	return c
}
