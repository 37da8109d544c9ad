package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/deliver"
	"postern/serve"
)

func queueFlush() *cobra.Command {
	var p place
	var wait time.Duration
	c := &cobra.Command{
		Use: "flush [DOMAIN]", Short: "try now all that waits, or what waits for one domain", Args: cobra.MaximumNArgs(1),
		Long: `Flush tries now all that was put off, or what was put off for one domain; what is
held stays held. A domain that did not answer, and is left alone for a while, is
asked again at once. What came of it is printed after some seconds.`,
		Example: `  # the line was down, and is up again
  postern queue flush

  # one domain has mended its server
  postern queue flush far.example`,
		RunE: func(c *cobra.Command, args []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			query := url.Values{}
			if len(args) > 0 {
				query.Set("destination", args[0])
			}
			before, err := countDeliveries(c, control)
			if err != nil {
				return err
			}
			done, err := batches(c, control, "/queue/flush", query)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "retry: %s; those that are held stay held\n", plural(done.Messages, "message"))
			return printOutcome(c, control, before, &done, wait)
		},
	}
	addWait(c, &wait)
	p.add(c)
	return c
}

func addWait(c *cobra.Command, wait *time.Duration) {
	c.Flags().DurationVar(wait, "wait", 5*time.Second, "at most `TIME` until what came of it is printed; 0s: do not wait")
}

// deliveries are what was done for each destination until now.
type deliveries map[string]deliver.Status

func countDeliveries(c *cobra.Command, control *serve.Control) (deliveries, error) {
	var list []deliver.Status
	if err := control.Get(c.Context(), "/deliveries", &list); err != nil {
		return nil, controlError(c, err)
	}
	d := make(deliveries, len(list))
	for _, s := range list {
		d[s.Destination] = s
	}
	return d, nil
}

// since returns what was done for a destination since then.
func (d deliveries) since(before deliveries, name string) deliver.Sums {
	now, old := d[name].Sums, before[name].Sums
	if now.Delivered < old.Delivered || now.Deferred < old.Deferred || now.Failed < old.Failed {
		return now // it was forgotten in between
	}
	return deliver.Sums{Delivered: now.Delivered - old.Delivered, Deferred: now.Deferred - old.Deferred, Failed: now.Failed - old.Failed}
}

// printOutcome waits until what was to be tried has been, or for so long, and
// says what came of it.
func printOutcome(c *cobra.Command, control *serve.Control, before deliveries, done *serve.Batch, wait time.Duration) error {
	w := c.OutOrStdout()
	for _, s := range done.Lifted {
		fmt.Fprintf(w, "%s is asked again; it was left alone until %s: %s\n", told(s.Destination), s.Blocked.Local().Format("15:04:05"), told(s.Why))
	}
	if done.Messages == 0 || wait <= 0 {
		return nil
	}
	began := time.Now()
	var now deliveries
	var all deliver.Sums
	for {
		var err error
		if now, err = countDeliveries(c, control); err != nil {
			return err
		}
		all = deliver.Sums{}
		busy := false
		for name, s := range now {
			some := now.since(before, name)
			all.Delivered, all.Deferred, all.Failed = all.Delivered+some.Delivered, all.Deferred+some.Deferred, all.Failed+some.Failed
			busy = busy || s.Active+s.Ahead > 0
		}
		tried := all.Delivered + all.Deferred + all.Failed
		if tried >= uint64(done.Messages) || tried > 0 && !busy && time.Since(began) > time.Second || time.Since(began) > wait {
			break
		}
		select {
		case <-c.Context().Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
	fmt.Fprintf(w, "after %.0f s: %d delivered, %d put off, %d failed\n", max(time.Since(began).Seconds(), 1), all.Delivered, all.Deferred, all.Failed)
	for name, s := range now {
		if !s.Blocked.IsZero() && (len(done.Lifted) == 0 || now.since(before, name) != (deliver.Sums{})) {
			fmt.Fprintf(w, "%s is left alone again until %s: %s\n", told(name), s.Blocked.Local().Format("15:04:05"), told(s.Why))
		}
	}
	if tried := all.Delivered + all.Deferred + all.Failed; tried < uint64(done.Messages) {
		fmt.Fprintln(w, "the rest is on its way, or was put off with its destination: postern top, postern queue list")
	}
	return nil
}

// printKept says how many messages were released of how many, and why not all.
func printKept(c *cobra.Command, done *serve.Batch) {
	w := c.OutOrStdout()
	because := map[string][]string{}
	var order []string
	for _, k := range done.Kept {
		if because[k.Why] == nil {
			order = append(order, k.Why)
		}
		because[k.Why] = append(because[k.Why], k.ID)
	}
	sum := fmt.Sprintf("%d of %d released", done.Messages, done.Messages+done.Stay)
	if len(order) == 1 {
		fmt.Fprintf(w, "%s: %s\n", sum, told(order[0]))
		return
	}
	fmt.Fprintf(w, "%s; the rest stays held:\n", sum)
	for _, why := range order {
		fmt.Fprintf(w, "  %s  %s\n", strings.Join(because[why], " "), told(why))
	}
}

// doneOf says by the exit code whether all was done that was named or chosen.
func doneOf(done *serve.Batch, named int) error {
	switch missing := named - done.Messages - done.Stay; {
	case done.Stay > 0:
		return &exit{code: exitNothing, help: "what cannot leave stays held"}
	case missing > 0:
		return &exit{code: exitNothing, help: fmt.Sprintf("%s not in the queue: it may have left: postern trace ID", isOrAre(missing))}
	}
	return nil
}

func isOrAre(n int) string {
	if n == 1 {
		return "1 message is"
	}
	return fmt.Sprintf("%d messages are", n)
}
