package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/serve"
)

func queueCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "queue",
		Short: "what waits, and what is held",
		Long: `Queue shows and changes what the running relay has accepted and not yet sent.
Messages are named by their ids, or chosen by filters, which all must pass.`,
	}
	c.AddCommand(queueList(), queueShow(),
		queueDo("hold", "keep messages from leaving"), queueDo("release", "let held messages leave"),
		queueDo("retry", "try messages now"), queueDo("delete", "remove messages; nobody is told"),
		queueFlush(), queueBackup(), queueVerify(), queueRestore(), queueSalvage())
	return c
}

// filters are the words by which messages are chosen.
type filters struct{ from, to, destination, state, grant, who, reply, older, newer string }

func (f *filters) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.from, "from", "", "reverse-path `ADDRESS`, @domain or <>")
	fl.StringVar(&f.to, "to", "", "recipient `ADDRESS` or @domain")
	fl.StringVar(&f.destination, "destination", "", "`DOMAIN` that it goes to")
	fl.StringVar(&f.state, "is", "", "`STATE` as the list shows it: fresh, active, deferred, held")
	fl.StringVar(&f.grant, "grant", "", "`REASON` of its grant: authenticated, trusted_client, inbound")
	fl.StringVar(&f.who, "who", "", "`NAME` of the identity, trusted client or domain that was granted")
	fl.StringVar(&f.reply, "reply", "", "`TEXT` in the last reply")
	fl.StringVar(&f.older, "older", "", "accepted before `TIME`: 2h or 3d ago, 14:02, 2026-11-24")
	fl.StringVar(&f.newer, "newer", "", "accepted at or after `TIME`")
}

// query returns the filters that were said; none: an empty query.
func (f *filters) query(now time.Time) (url.Values, error) {
	v := url.Values{}
	for name, value := range map[string]string{"from": f.from, "to": f.to, "destination": f.destination, "state": f.state, "grant": f.grant, "who": f.who, "reply": f.reply} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, text := range map[string][2]string{"before": {"older", f.older}, "since": {"newer", f.newer}} {
		if text[1] == "" {
			continue
		}
		at, err := moment(text[1], now)
		if err != nil {
			return nil, usage("--%s: %w", text[0], err)
		}
		v.Set(name, at.Format(time.RFC3339Nano))
	}
	return v, nil
}

func queueList() *cobra.Command {
	var p place
	var f filters
	var messages, asJSON bool
	most := mostListed
	c := &cobra.Command{
		Use: "list [ID...]", Short: "print what waits, by destination or by message",
		Long: `List prints what waits: by destination, or, with a filter or --messages, by message.

A message is fresh while no attempt was made and one is due; active while it is
being delivered; deferred while it waits for its next attempt, since it was tried,
or since its destination did not answer others and is left alone for a while; held
while it waits for you. postern trace ID says what a message waits for.`,
		Example: `  # destinations
  postern queue list

  # the messages of one sender that wait for more than a day
  postern queue list --from anna@example.org --older 1d`,
		RunE: func(c *cobra.Command, ids []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			query, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if asJSON && !c.Flags().Changed("max") {
				most = 0 // programs want all of it
			}
			var page serve.QueuePage
			total := 0
			switch {
			case !messages && len(query) == 0 && len(ids) == 0:
				if err := control.Get(c.Context(), "/queue", &page); err != nil {
					return controlError(c, err)
				}
			case asJSON:
				return eachPage(c, control, query, ids, most, func(page serve.QueuePage) error {
					return printed(json.NewEncoder(c.OutOrStdout()).Encode(page))
				})
			default:
				if err := eachPage(c, control, query, ids, most, func(p serve.QueuePage) error {
					page.Hold, page.Messages = p.Hold, append(page.Messages, p.Messages...)
					return nil
				}); err != nil {
					return err
				}
				if total = len(page.Messages); most > 0 && total == most && len(ids) == 0 {
					query.Set("all", "1")
					counted, err := batches(c, control, "/queue/count", query)
					if err != nil {
						return err
					}
					total = counted.Messages
				}
			}
			if asJSON {
				return printed(json.NewEncoder(c.OutOrStdout()).Encode(page))
			}
			return printed(printPage(c.OutOrStdout(), page, total))
		},
	}
	c.Flags().BoolVar(&messages, "messages", false, "by message instead of destination")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each page of messages; docs/schemas describes it")
	c.Flags().IntVar(&most, "max", most, "at most `N` messages; 0: all, which is what --json prints unless it is told")
	f.add(c)
	p.add(c)
	return c
}

// mostListed is how many messages are listed where nobody says.
const mostListed = 100

// printed gives what went wrong with printing its exit code.
func printed(err error) error {
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	return nil
}

// eachPage hands on messages: those of the ids, or most of those that pass, all
// of them if most is 0.
func eachPage(c *cobra.Command, control *serve.Control, query url.Values, ids []string, most int, take func(serve.QueuePage) error) error {
	if len(ids) > 0 {
		var page serve.QueuePage
		for _, id := range ids {
			var m serve.QueuedMessage
			if err := control.Get(c.Context(), "/queue/"+url.PathEscape(id), &m); err != nil {
				return controlError(c, err)
			}
			page.Messages = append(page.Messages, m)
		}
		return take(page)
	}
	query = maps.Clone(query)
	query.Set("messages", "1")
	for first := true; ; first = false {
		size := 1000
		if most > 0 {
			size = min(most, size)
		}
		query.Set("max", strconv.Itoa(size))
		var page serve.QueuePage
		if err := control.Get(c.Context(), "/queue?"+query.Encode(), &page); err != nil {
			return controlError(c, err)
		}
		if len(page.Messages) > 0 || first { // the last page of those that pass may have none
			if err := take(page); err != nil {
				return err
			}
		}
		if most > 0 {
			if most -= len(page.Messages); most == 0 {
				return nil
			}
		}
		if page.Next == "" {
			return nil
		}
		query.Set("after", page.Next)
	}
}

// printPage prints destinations, or messages, of which there are total in all.
func printPage(w io.Writer, page serve.QueuePage, total int) error {
	if len(page.Destinations)+len(page.Messages) == 0 {
		_, err := fmt.Fprintln(w, "Nothing waits.")
		return err
	}
	if page.Hold != "" {
		fmt.Fprintf(w, "held: %s\n\n", page.Hold)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(page.Messages) > 0 {
		fmt.Fprintln(t, "ID\tSTATE\tACCEPTED\tSIZE\tFROM\tTO\tGRANT\tREASON")
		for _, m := range page.Messages {
			for i, to := range m.To {
				id, state, at, size, why := m.ID, m.State, m.Accepted.Local().Format("2 Jan 15:04"), fmt.Sprint(m.Size), m.Reason
				if i > 0 {
					id, state, at, size, why = "", "", "", "", ""
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s %s\t%s\n", id, state, at, size, told(m.From), told(to.Grant.To), to.Grant.Reason, told(to.Grant.Who), orNone(told(why), "-"))
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
		n := len(page.Messages)
		if total > n {
			_, err := fmt.Fprintf(w, "\n%d of %d messages, the oldest first; --max 0 prints all, filters choose\n", n, total)
			return err
		}
		_, err := fmt.Fprintf(w, "\n%s\n", plural(n, "message"))
		return err
	}
	fmt.Fprintln(t, "DESTINATION\tMESSAGES\tHELD\tOLDEST\tLAST REPLY")
	for _, d := range page.Destinations {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", told(orNone(d.Destination, "(postmaster)")), d.Messages, d.Held, ageOf(d.Oldest), orNone(told(d.Reply), "-"))
	}
	return t.Flush()
}

func queueShow() *cobra.Command {
	var p place
	var f filters
	var body, asJSON bool
	c := &cobra.Command{
		Use: "show [ID...]", Short: "print messages in full: where they came from, why they were accepted",
		Example: `  postern queue show 06G1JX6QZR8V3KTM

  postern queue show --reply greylisted --newer 1h`,
		RunE: func(c *cobra.Command, ids []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			query, err := f.query(time.Now())
			switch {
			case err != nil:
				return err
			case len(ids) == 0 && len(query) == 0:
				return errNoChoice
			case body && len(ids) != 1:
				return usage("--body prints one message: name it by its id")
			case body:
				if err := control.Get(c.Context(), "/queue/"+url.PathEscape(ids[0])+"/body", c.OutOrStdout()); err != nil {
					return controlError(c, err)
				}
				return nil
			}
			return eachPage(c, control, query, ids, 0, func(page serve.QueuePage) error {
				for i := range page.Messages {
					if asJSON {
						if err := printed(json.NewEncoder(c.OutOrStdout()).Encode(&page.Messages[i])); err != nil {
							return err
						}
						continue
					}
					printMessage(c.OutOrStdout(), &page.Messages[i])
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&body, "body", false, "print the message itself, as it was accepted")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a message; docs/schemas describes it")
	f.add(c)
	p.add(c)
	return c
}

func printMessage(w io.Writer, m *serve.QueuedMessage) {
	who := "a stranger"
	if m.Identity != "" {
		who = m.Identity
	}
	fmt.Fprintf(w, "%s  %s  %d octets  from %s (%s, %s) by listener %s\n", m.ID, told(m.From), m.Size, told(who), m.Peer, orNone(m.TLS, "no TLS"), m.Listener)
	fmt.Fprintf(w, "  accepted %s, %s\n", m.Accepted.Local().Format("2 Jan 2006 15:04:05 MST"), m.State)
	if m.Hold != "" {
		fmt.Fprintf(w, "  held: %s\n", told(m.Hold))
	}
	for _, to := range m.To {
		fmt.Fprintf(w, "  %s  granted: %s %s  %s\n", told(to.Grant.To), to.Grant.Reason, told(to.Grant.Who), to.Grant.At)
		for _, d := range to.Goes {
			fmt.Fprintf(w, "    %s  %s\n", told(d.To), strings.TrimSpace(strings.Join([]string{d.State, tries(d.Attempts), told(d.Last)}, "  ")))
			if d.Waits != nil {
				fmt.Fprintf(w, "      %s\n", waits(d.Waits))
			}
		}
	}
}

func tries(n int) string {
	if n == 0 {
		return "not tried"
	}
	return "tried " + plural(n, "time")
}

// waits says what a delivery waits for.
func waits(w *serve.Wait) string {
	at := func(t time.Time) string {
		t = t.Local()
		if day := t.Format(time.DateOnly); day != time.Now().Format(time.DateOnly) {
			return t.Format("2 Jan 15:04:05")
		}
		return t.Format("15:04:05")
	}
	because := ""
	if w.Why != "" {
		because = ": " + told(w.Why)
	}
	switch w.For {
	case "operator":
		return "waits for you" + because
	case "pause":
		s := fmt.Sprintf("waits: %s is left alone until %s", told(w.Destination), at(w.Until))
		if !w.Next.IsZero() {
			s += ", and this one is tried at " + at(w.Next)
		}
		return s + because + "; postern queue flush " + told(w.Destination) + " asks it now"
	case "attempt":
		return "waits for its next attempt at " + at(w.Until) + because
	case "server":
		return "is being delivered now"
	}
	return "waits for its turn" + because
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

var errNoChoice = usage("name messages by their ids, or choose them by a filter; see --help")

func queueDo(verb, short string) *cobra.Command {
	var p place
	var f filters
	var yes, asJSON bool
	var wait time.Duration
	c := &cobra.Command{
		Use: verb + " [ID...]", Short: short,
		Example: fmt.Sprintf("  postern queue %s 06G1JX6QZR8V3KTM\n\n  postern queue %s --from anna@example.org --yes", verb, verb),
		RunE: func(c *cobra.Command, ids []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			now := time.Now()
			query, err := f.query(now)
			switch {
			case err != nil:
				return err
			case len(ids) > 0 && len(query) > 0:
				return usage("name messages by their ids, or choose them by filters, not both")
			case len(ids) == 0 && len(query) == 0:
				return errNoChoice
			}
			n := len(ids)
			if n == 0 {
				counted, err := batches(c, control, "/queue/count", query)
				if err != nil {
					return err
				}
				n = counted.Messages
				// What comes in from now on was not counted, and is not touched. What a
				// clock that was wrong accepted tomorrow was.
				if query.Get("before") == "" {
					query.Set("before", counted.Newest.Add(time.Nanosecond).Format(time.RFC3339Nano))
				}
			}
			if n == 0 {
				fmt.Fprintln(c.OutOrStdout(), "Nothing was chosen.")
				return nil
			}
			if !yes && (verb == "delete" || n > 1) {
				if err := confirm(c, verb, n); err != nil {
					return err
				}
			}
			var before deliveries
			if verb == "retry" {
				if before, err = countDeliveries(c, control); err != nil {
					return err
				}
			}
			var done serve.Batch
			if len(ids) == 0 {
				done, err = batches(c, control, "/queue/"+verb, query)
			}
			named := len(ids)
			for ; len(ids) > 0 && err == nil; ids = ids[min(len(ids), 500):] {
				var b serve.Batch
				b, err = batches(c, control, "/queue/"+verb, url.Values{"id": ids[:min(len(ids), 500)]})
				done.Messages += b.Messages
				done.Stay, done.Kept, done.Lifted = done.Stay+b.Stay, append(done.Kept, b.Kept...), append(done.Lifted, b.Lifted...)
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := printed(json.NewEncoder(c.OutOrStdout()).Encode(&done)); err != nil {
					return err
				}
			} else if verb == "release" && done.Stay > 0 {
				printKept(c, &done)
			} else {
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", verb, plural(done.Messages, "message"))
			}
			if verb == "retry" && !asJSON {
				if err := printOutcome(c, control, before, &done, wait); err != nil {
					return err
				}
			}
			return doneOf(&done, named)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON; docs/schemas describes it")
	if verb == "retry" {
		addWait(c, &wait)
	}
	f.add(c)
	p.add(c)
	return c
}

// batches lets the relay do something to messages, call after call, and
// returns to how many. The relay chooses them: ids of a million do not travel.
func batches(c *cobra.Command, control *serve.Control, path string, query url.Values) (all serve.Batch, err error) {
	query = maps.Clone(query)
	for {
		var b serve.Batch
		if err := control.Post(c.Context(), path+"?"+query.Encode(), &b); err != nil {
			if all.Messages > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "%s were done before that\n", plural(all.Messages, "message"))
			}
			return all, controlError(c, err)
		}
		all.Messages, all.Notices, all.Stay = all.Messages+b.Messages, all.Notices+b.Notices, all.Stay+b.Stay
		all.Kept, all.Lifted = append(all.Kept, b.Kept...), append(all.Lifted, b.Lifted...)
		if b.Newest.After(all.Newest) {
			all.Newest = b.Newest
		}
		if b.Next == "" {
			return all, nil
		}
		query.Set("after", b.Next)
	}
}

func confirm(c *cobra.Command, verb string, n int) error {
	return agree(c, verb+" "+plural(n, "message"))
}

// agree lets who sits at the terminal decide; without one, --yes must be said.
func agree(c *cobra.Command, what string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usage("%s: say --yes", what)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s? [y/N] ", what)
	var word string
	_, _ = fmt.Fscanln(c.InOrStdin(), &word) // an empty line is a no
	if !strings.HasPrefix(strings.ToLower(word), "y") {
		return &exit{code: exitUsage, help: "nothing was changed"}
	}
	return nil
}

// ageOf writes how long ago something was. What a clock that was wrong wrote
// into the future is no older than now.
func ageOf(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return max(time.Since(at), 0).Round(time.Second).String()
}
