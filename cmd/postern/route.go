package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/deliver"
	"postern/mail"
	"postern/serve"
)

func routeCommand() *cobra.Command {
	c := &cobra.Command{Use: "route", Short: "how mail leaves", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(routeTestCommand())
	return c
}

func routeTestCommand() *cobra.Command {
	var p place
	var asJSON, connect bool
	c := &cobra.Command{
		Use:   "test ADDRESS|DOMAIN",
		Short: "show the way of mail for an address, and why",
		Long: `Test shows which route of the configuration mail for an address takes, the
hosts that would be tried and their addresses, and why one would not be used. It
asks the DNS as the relay does. Nothing is sent; with --connect a session is
opened with each host and ended again.

It ends with 0 when mail would leave, 2 when it would wait, 1 when it would fail.`,
		Example: `  postern route test anna@example.org
  postern route test far.example --connect`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if i := strings.LastIndexByte(name, '@'); i >= 0 {
				if _, err := mail.ParseAddress(name); err != nil {
					return usage("%v", err)
				}
				name = name[i+1:]
			}
			domain, err := mail.ParseDomain(name)
			if err != nil {
				return usage("%v", err)
			}
			if domain.Parent().IsZero() && !domain.IsLiteral() && name == args[0] {
				return usage("%q is neither an address nor a domain; write name@example.org or example.org", name)
			}
			settings, err := p.settings()
			if err != nil {
				return badConfig(c.ErrOrStderr(), err)
			}
			explainer, err := serve.Explainer(settings)
			if err != nil {
				return badConfig(c.ErrOrStderr(), err)
			}
			way := explainer.Explain(c.Context(), domain.ASCII(), connect)
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(wayJSON(domain, way))
			} else {
				printWay(c.OutOrStdout(), domain, way)
			}
			switch {
			case err != nil:
				return err
			case way.Why == "":
				return nil
			case way.Fails:
				return &exit{code: exitOpen}
			}
			return &exit{code: exitDoubtful}
		},
	}
	c.Flags().BoolVar(&connect, "connect", false, "open a session with each host, and end it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
}

func printWay(w io.Writer, domain mail.Domain, way deliver.Way) {
	r := way.Route
	where := ""
	if r.At.File != "" {
		where = "   " + r.At.String()
	}
	fmt.Fprintf(w, "%s\n  route  %s, by %s%s\n", domain, r.Name, r.Kind, where)
	if r.Kind == deliver.ToMaildir {
		fmt.Fprintf(w, "  folder %s\n", r.Folder)
	}
	if len(way.Hosts) > 0 {
		fmt.Fprintf(w, "  tls    %s\n", r.TLS)
	}
	for _, x := range []struct{ name, text string }{{"login", r.User}, {"helo", r.Helo}, {"from", addresses(r.Source)}} {
		if x.text != "" {
			fmt.Fprintf(w, "  %-6s %s\n", x.name, x.text)
		}
	}
	for _, h := range way.Hosts {
		fmt.Fprintf(w, "  host   %s   %s\n", h.Host, addresses(h.Addrs))
		if h.Why != "" {
			fmt.Fprintf(w, "         not used: %s\n", printable(h.Why))
		}
		if h.Via != nil {
			fmt.Fprintf(w, "         answers at %s, %s\n", h.Via.Addr, orElse(h.Via.TLS, "without TLS"))
		}
	}
	switch {
	case way.Why == "":
		fmt.Fprintln(w, "mail would leave this way")
	case way.Fails:
		fmt.Fprintf(w, "mail would come back: %s\n", printable(way.Why))
	default:
		fmt.Fprintf(w, "mail would wait: %s\n", printable(way.Why))
	}
}

func addresses(list []netip.Addr) string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// wayJSON is what programs read of a way. Fields are added, never changed.
func wayJSON(domain mail.Domain, way deliver.Way) any {
	type host struct {
		Host      string   `json:"host"`
		Addresses []string `json:"addresses"`
		Why       string   `json:"why,omitempty"`
		Answers   string   `json:"answers,omitempty"`
		TLS       string   `json:"tls,omitempty"`
	}
	v := struct {
		Domain string `json:"domain"`
		Route  string `json:"route"`
		Via    string `json:"via"`
		At     string `json:"at,omitempty"`
		TLS    string `json:"tls_policy"`
		Hosts  []host `json:"hosts"`
		Leaves bool   `json:"leaves"`
		Fails  bool   `json:"fails"`
		Why    string `json:"why,omitempty"`
	}{Domain: domain.ASCII(), Route: way.Route.Name, Via: way.Route.Kind.String(), TLS: way.Route.TLS.String(), Hosts: []host{}, Leaves: way.Why == "", Fails: way.Fails, Why: way.Why}
	if way.Route.At.File != "" {
		v.At = way.Route.At.String()
	}
	for _, h := range way.Hosts {
		one := host{Host: h.Host.String(), Addresses: []string{}, Why: h.Why}
		for _, a := range h.Addrs {
			one.Addresses = append(one.Addresses, a.String())
		}
		if h.Via != nil {
			one.Answers, one.TLS = h.Via.Addr.String(), h.Via.TLS
		}
		v.Hosts = append(v.Hosts, one)
	}
	return v
}
