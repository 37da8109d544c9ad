package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
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
		queueFlush(), queueBackup(), queueVerify(), queueRestore())
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
	c := &cobra.Command{
		Use: "list [ID...]", Short: "print what waits, by destination or by message",
		Example: `  # destinations
  postern queue list

  # the messages of one sender that wait for more than a day
  postern queue list --from anna@example.org --older 1d`,
		RunE: func(c *cobra.Command, ids []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			shown := false
			show := func(page serve.QueuePage, messages bool) error {
				if shown && len(page.Messages) == 0 {
					return nil // the last page of those that pass may have none
				}
				shown = true
				if err := printPage(c.OutOrStdout(), page, messages, asJSON); err != nil {
					return &exit{code: exitIO, err: err}
				}
				return nil
			}
			query, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if !messages && len(query) == 0 && len(ids) == 0 {
				var page serve.QueuePage
				if err := control.Get(c.Context(), "/queue", &page); err != nil {
					return controlError(c, err)
				}
				return show(page, false)
			}
			return eachPage(c, control, query, ids, func(page serve.QueuePage) error { return show(page, true) })
		},
	}
	c.Flags().BoolVar(&messages, "messages", false, "by message instead of destination")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each page")
	f.add(c)
	p.add(c)
	return c
}

// eachPage hands on messages: those of the ids, or those that pass.
func eachPage(c *cobra.Command, control *serve.Control, query url.Values, ids []string, take func(serve.QueuePage) error) error {
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
	query.Set("messages", "1")
	query.Set("max", "1000")
	for {
		var page serve.QueuePage
		if err := control.Get(c.Context(), "/queue?"+query.Encode(), &page); err != nil {
			return controlError(c, err)
		}
		if err := take(page); err != nil || page.Next == "" {
			return err
		}
		query.Set("after", page.Next)
	}
}

func printPage(w io.Writer, page serve.QueuePage, messages, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(page)
	}
	if len(page.Destinations)+len(page.Messages) == 0 {
		_, err := fmt.Fprintln(w, "Nothing waits.")
		return err
	}
	if page.Hold != "" {
		fmt.Fprintf(w, "held: %s\n\n", page.Hold)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if messages {
		fmt.Fprintln(t, "ID\tSTATE\tACCEPTED\tSIZE\tFROM\tTO\tGRANT\t")
		for _, m := range page.Messages {
			for i, to := range m.To {
				id, state, at, size := m.ID, m.State, m.Accepted.Local().Format("2 Jan 15:04"), fmt.Sprint(m.Size)
				if i > 0 {
					id, state, at, size = "", "", "", ""
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s %s\t%s\n", id, state, at, size, told(m.From), told(to.Grant.To), to.Grant.Reason, told(to.Grant.Who), told(m.Hold))
			}
		}
		return t.Flush()
	}
	fmt.Fprintln(t, "DESTINATION\tMESSAGES\tHELD\tOLDEST\tLAST REPLY")
	for _, d := range page.Destinations {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", told(orNone(d.Name, "(postmaster)")), d.Messages, d.Held, ageOf(d.Oldest), told(d.Reply))
	}
	return t.Flush()
}

func queueShow() *cobra.Command {
	var p place
	var f filters
	var body bool
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
			return eachPage(c, control, query, ids, func(page serve.QueuePage) error {
				for i := range page.Messages {
					printMessage(c.OutOrStdout(), &page.Messages[i])
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&body, "body", false, "print the message itself")
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
		fmt.Fprintf(w, "  %s  granted: %s %s  %s\n", told(to.Grant.To), to.Grant.Reason, told(to.Grant.Who), to.Grant.Origin)
		for _, d := range to.Goes {
			fmt.Fprintf(w, "    %s  %s  %s\n", told(d.To), d.State, told(d.Last))
		}
	}
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
	var yes bool
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
				// What comes in meanwhile was not counted, and is not touched.
				if query.Get("before") == "" {
					query.Set("before", now.Format(time.RFC3339Nano))
				}
				counted, err := batches(c, control, "/queue/count", query)
				if err != nil {
					return err
				}
				n = counted.Messages
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
			var done serve.Batch
			if len(ids) == 0 {
				done, err = batches(c, control, "/queue/"+verb, query)
			}
			for ; len(ids) > 0 && err == nil; ids = ids[min(len(ids), 500):] {
				var b serve.Batch
				b, err = batches(c, control, "/queue/"+verb, url.Values{"id": ids[:min(len(ids), 500)]})
				done.Messages += b.Messages
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", verb, plural(done.Messages, "message"))
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
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
		all.Messages, all.Notices = all.Messages+b.Messages, all.Notices+b.Notices
		if b.Next == "" {
			return all, nil
		}
		query.Set("after", b.Next)
	}
}

func queueFlush() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use: "flush [DOMAIN]", Short: "try now all that waits, or what waits for one domain", Args: cobra.MaximumNArgs(1),
		Example: `  # the line was down, and is up again
  postern queue flush

  # one domain has mended its server
  postern queue flush far.example`,
		RunE: func(c *cobra.Command, args []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			query := url.Values{"all": {"1"}, "before": {time.Now().Format(time.RFC3339Nano)}}
			if len(args) > 0 {
				query.Set("destination", args[0])
			}
			done, err := batches(c, control, "/queue/retry", query)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "retry: %s; those that are held stay held\n", plural(done.Messages, "message"))
			return nil
		},
	}
	p.add(c)
	return c
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

func ageOf(id string) string {
	at := serve.AcceptedAt(id)
	if at.IsZero() {
		return "-"
	}
	return time.Since(at).Round(time.Second).String()
}
