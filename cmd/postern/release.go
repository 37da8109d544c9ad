package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/serve"
)

func releaseCommand() *cobra.Command {
	c, decide := breakoutCommand("release")
	c.Short = "let go what a breakout holds, and take its rate for the new habit"
	c.Long = `An identity that sends far more than it is used to has broken out: what it sends
is accepted and held. Release lets all of it go, and from then on the rate is what
this identity is used to. Without a name it lists who has broken out.

What a breakout is: docs/traffic.md.`
	c.Example = `  # who has broken out
  postern release

  # it was the newsletter
  postern release anna`
	var named string
	c.Flags().StringVar(&named, "breakout", "", "the same as the argument `NAME`")
	run := decide
	c.RunE = func(c *cobra.Command, args []string) error {
		if named != "" {
			args = append(args, named)
		}
		if len(args) > 1 {
			return usage("name one identity")
		}
		return run(c, args)
	}
	return c
}

func rejectCommand() *cobra.Command {
	c, decide := breakoutCommand("reject")
	c.Short = "delete what a breakout holds"
	c.Long = `Reject deletes all that is held of an identity that has broken out. With --notify
its mailbox gets a failure notice for each message, 100 at most. What was deleted is
known to postern trace. After a theft change the password first, or the next
messages break out again: postern user passwd NAME.

Without a name it lists who has broken out.`
	c.Example = `  # the password was stolen
  postern user disable anna
  postern reject anna`
	c.RunE = decide
	return c
}

// breakoutCommand is what release and reject have in common.
func breakoutCommand(word string) (*cobra.Command, func(*cobra.Command, []string) error) {
	var p place
	var yes, notify, asJSON bool
	c := &cobra.Command{Use: word + " [IDENTITY]", Args: cobra.MaximumNArgs(1)}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: the breakouts, or what was done; docs/schemas describes it")
	if word == "reject" {
		c.Flags().BoolVar(&notify, "notify", false, "tell the sender by failure notices")
	}
	p.add(c)
	return c, func(c *cobra.Command, args []string) error {
		control, err := p.control()
		if err != nil {
			return err
		}
		query := url.Values{}
		if len(args) > 0 {
			query.Set("who", args[0])
		}
		var list []serve.HeldBatch
		if err := control.Get(c.Context(), "/breakouts?"+query.Encode(), &list); err != nil {
			return controlError(c, err)
		}
		if len(list) == 0 {
			if len(args) == 0 && asJSON {
				return printed(json.NewEncoder(c.OutOrStdout()).Encode(list))
			}
			if len(args) > 0 {
				return &exit{code: exitNothing, help: fmt.Sprintf("%q has not broken out, and nothing of it is held for that", args[0])}
			}
			fmt.Fprintln(c.OutOrStdout(), "Nobody has broken out.")
			return nil
		}
		for i := range list {
			if !asJSON {
				printBatch(c, &list[i])
			}
		}
		if len(args) == 0 && asJSON {
			return printed(json.NewEncoder(c.OutOrStdout()).Encode(list))
		}
		if len(args) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "\npostern release NAME lets it go, postern reject NAME deletes it")
			return nil
		}
		if !yes {
			if err := confirm(c, word, list[0].Messages); err != nil {
				return err
			}
		}
		if notify {
			query.Set("notify", "1")
		}
		done, err := batches(c, control, "/breakouts/"+word, query)
		if err != nil {
			return err
		}
		if asJSON {
			if err := printed(json.NewEncoder(c.OutOrStdout()).Encode(&done)); err != nil {
				return err
			}
			return doneOf(&done, 0)
		}
		if done.Stay > 0 {
			printKept(c, &done)
		} else {
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", word, plural(done.Messages, "message"))
		}
		if notify {
			fmt.Fprintf(c.OutOrStdout(), "the sender is told of it by %s\n", plural(done.Notices, "notice"))
		}
		return doneOf(&done, 0)
	}
}

// printBatch says who has broken out, since when, and to whom it would go.
func printBatch(c *cobra.Command, b *serve.HeldBatch) {
	since := "over"
	if !b.Since.IsZero() {
		since = "since " + b.Since.Local().Format("2 Jan 15:04:05")
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s  %s  %s held to %s\n  %s\n", told(b.Who), since, plural(b.Messages, "message"), plural(b.Recipients, "recipient"), told(strings.TrimPrefix(b.Why, "breakout: ")))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range b.To {
		fmt.Fprintf(t, "  %s\t%s\n", told(orNone(d.Destination, "(postmaster)")), plural(d.Recipients, "recipient"))
	}
	_ = t.Flush() // a terminal that is gone ends the program by itself
}
