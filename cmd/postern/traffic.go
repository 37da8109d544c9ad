package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/meter"
	"postern/serve"
)

func trafficCommand() *cobra.Command {
	var p place
	var by, since string
	var most int
	var asJSON bool
	c := &cobra.Command{
		Use:   "traffic",
		Short: "who sends how much, to whom, and what it costs",
		Long: `Traffic prints sums of what the running relay has taken and sent: of messages,
recipients and octets, that which costs most first. Hours are kept for 35 days,
months for two years; both are of UTC. What is counted: docs/traffic.md.`,
		Example: `  # who sent most in the last 24 hours
  postern traffic

  # by destination, in November
  postern traffic --by destination --since 2026-11`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, ok := meter.ParseDimension(by); !ok {
				return usage("--by %q: write identity, client or destination", by)
			}
			if most < 1 {
				return usage("--max %d: say how many rows, one at least", most)
			}
			query := url.Values{"by": {by}, "max": {strconv.Itoa(most)}}
			if _, err := time.Parse("2006-01", since); err == nil {
				query.Set("month", since)
			} else {
				at, err := moment(since, time.Now())
				if err != nil {
					return usage("--since: %w, or 2026-11 for a month", err)
				}
				query.Set("since", at.UTC().Format(time.RFC3339))
			}
			control, err := p.control()
			if err != nil {
				return err
			}
			var page serve.TrafficPage
			if err := control.Get(c.Context(), "/traffic?"+query.Encode(), &page); err != nil {
				return controlError(c, err)
			}
			if err := printTraffic(c.OutOrStdout(), &page, asJSON); err != nil {
				return &exit{code: exitIO, err: err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&by, "by", "identity", "`WHAT`: identity, client (its network) or destination")
	f.StringVar(&since, "since", "24h", "since `TIME`: 24h or 30d ago, 2026-11-24, or the month 2026-11")
	f.IntVar(&most, "max", 20, "at most `N` rows")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
}

func printTraffic(w io.Writer, page *serve.TrafficPage, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(page)
	}
	fmt.Fprintf(w, "%s to %s\n", page.From.UTC().Format("2 Jan 2006 15:04"), page.Until.UTC().Format("2 Jan 2006 15:04 MST"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := strings.ToUpper(page.By) + "\tMESSAGES\tRECIPIENTS\tIN\tOUT\tDELIVERED\tDEFERRED\tFAILED\tHELD\tREFUSED\t"
	tunnels := page.Total.Tunnels+page.Total.Up+page.Total.Down > 0 // of a relay that has gateways
	if tunnels {
		head += "TUNNELS\t"
	}
	if page.Currency != "" {
		head += "COST\t"
	}
	fmt.Fprintln(t, head)
	row := func(name string, s *meter.Sums) {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t", told(name), s.Messages, s.Recipients, octets(s.In), octets(s.Out), s.Delivered, s.Deferred, s.Failed, s.Held, s.Refused)
		if tunnels {
			fmt.Fprintf(t, "%d\t", s.Tunnels)
		}
		if page.Currency != "" {
			fmt.Fprintf(t, "%.2f %s\t", float64(s.Costs())/(1<<30)*page.Price, page.Currency)
		}
		fmt.Fprintln(t)
	}
	for i := range page.Rows {
		row(page.Rows[i].Name, &page.Rows[i].Sums)
	}
	row("(total)", &page.Total)
	if err := t.Flush(); err != nil {
		return err
	}
	if page.More > 0 {
		fmt.Fprintf(w, "(%d more: --max)\n", page.More)
	}
	for _, b := range page.Budgets {
		fmt.Fprintf(w, "budget %s of %s: %s are to leave, %.0f %%\n", b.Budget, told(orNone(b.Who, "all")), octets(b.Leaves), 100*b.Share)
	}
	for _, b := range page.Breakouts {
		fmt.Fprintf(w, "breakout of %s since %s: postern release %[1]s, or postern reject %[1]s\n", told(b.Who), b.Since.Local().Format("2 Jan 15:04:05"))
	}
	return printSuspended(w, page.Suspended)
}

// printSuspended names the trusted clients that are trusted no more.
func printSuspended(w io.Writer, list []serve.Suspension) error {
	for _, s := range list {
		if _, err := fmt.Fprintf(w, "suspended since %s: %s: %s; postern reload trusts it again\n", s.Since.Local().Format("2 Jan 15:04:05"), told(s.Client), told(s.Why)); err != nil {
			return err
		}
	}
	return nil
}

// octets writes a size so that people can compare it.
func octets(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 {
			if unit == "B" {
				return fmt.Sprintf("%d B", n)
			}
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1f TiB", f)
}
