package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/identity"
	"postern/serve"
)

func userLocked() *cobra.Command {
	var p place
	var asJSON bool
	c := &cobra.Command{
		Use: "locked", Short: "print who has failed to log in too often, and waits for it", Args: cobra.NoArgs,
		Long: `Locked prints which counts of failed logins have reached their limit in the
running relay: of an account in a network, of an address, of an account
everywhere. Beyond a limit attempts take turns; docs/serve.md says how long.
Names that no account has are shown in part: one may be a password.`,
		Example: `  postern user locked`,
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			var list serve.LockedLogins
			if err := control.Get(c.Context(), "/users/locked", &list); err != nil {
				return controlError(c, err)
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list.Locked)
			}
			if len(list.Locked) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "Nobody has failed to log in too often.")
				return nil
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "USER\tFROM\tFAILED\tSINCE\tNOW")
			for _, l := range list.Locked {
				fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", orAny(printable(l.Who)), orAny(l.From), l.Failures, orNever(l.Since), lockedNow(l, time.Now()))
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return s
}

func lockedNow(l identity.Locked, now time.Time) string {
	switch {
	case l.Alarm:
		return "alarm: strange networks have few failures free"
	case l.Next.After(now):
		return "the next attempt is judged in " + l.Next.Sub(now).Round(time.Second).String()
	}
	return "attempts take turns"
}

func userUnlock() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use: "unlock NAME...", Short: "forget the failed logins of users and their tokens", Args: cobra.MinimumNArgs(1),
		Long: `Unlock makes the running relay forget how often somebody failed to log in as a
user, or as one of its tokens, from anywhere. A new password (passwd) and enable
do so too.`,
		Example: `  postern user unlock anna`,
		RunE: func(c *cobra.Command, args []string) error {
			store, err := p.users(c)
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := store.Known(name); err != nil {
					return &exit{code: exitUsage, err: err}
				}
			}
			if err := serve.Dial(store.folder).Post(c.Context(), "/users/unlock?"+url.Values{"who": args}.Encode(), &struct{}{}); err != nil {
				return controlError(c, err)
			}
			fmt.Fprintf(c.OutOrStdout(), "failed logins of %s are forgotten\n", plural(len(args), "user"))
			return nil
		},
	}
	p.add(c)
	return c
}
