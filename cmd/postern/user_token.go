package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/guard"
	"postern/internal/identity"
)

func userToken() *cobra.Command {
	var p place
	var as []string
	var rate string
	var life time.Duration
	var remove, gateway bool
	c := &cobra.Command{
		Use:   "token USER NAME",
		Short: "make a password for one application, or remove it",
		Long: `A token logs in as USER/NAME and may send as no more than its user may, at
each decision; without --may-send-as that is what its user may. It is for mail
alone, unless --gateway opens the gateways to it as well. Its secret is shown
once.`,
		Example: `  # a shop that may send from one address, a hundred messages an hour
  postern user token anna shop --may-send-as shop@example.org --rate 100/h

  # a browser that leaves by a gateway
  postern user token anna browser --gateway

  # it is no longer used
  postern user token anna shop --remove`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			store, err := p.users(c)
			if err != nil {
				return err
			}
			if remove {
				if err := store.RemoveToken(args[0], args[1]); err != nil {
					return &exit{code: exitUsage, err: err}
				}
				fmt.Fprintf(c.OutOrStdout(), "token %s/%s removed\n", args[0], args[1])
				return store.changed(c, args[0])
			}
			if err := checkSenders(as); err != nil {
				return err
			}
			if _, err := guard.ParseRate(rate); rate != "" && err != nil {
				return usage("--rate: %w", err)
			}
			owned, _ := store.sends(args[0])
			k := identity.NewToken{Name: args[1], MaySendAs: as, Users: append([]string{}, owned...), Rate: rate, Gateway: gateway}
			if life > 0 {
				k.Expires = time.Now().Add(life)
			}
			secret, err := store.AddToken(args[0], k)
			if err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user      %s/%s\npassword  %s   (shown once)\n", strings.ToLower(args[0]), strings.ToLower(args[1]), string(secret))
			return store.changed(c, args[0])
		},
	}
	c.Flags().StringSliceVar(&as, "may-send-as", nil, "an `ADDRESS` of the user's; may be repeated (default: all of the user's, as they are then)")
	c.Flags().StringVar(&rate, "rate", "", "messages a time, as 100/h (default: the user's)")
	c.Flags().DurationVar(&life, "expires", 0, "after this `TIME` it is refused (default: never)")
	c.Flags().BoolVar(&gateway, "gateway", false, "for gateways too, not for mail alone")
	c.Flags().BoolVar(&remove, "remove", false, "remove the token")
	p.add(c)
	return c
}
