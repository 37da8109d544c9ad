package main

import (
	"encoding/json"
	"fmt"
	"io"
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
		Long:  `Queue shows and changes what the running relay has accepted and not yet sent.`,
	}
	c.AddCommand(queueList(), queueShow(),
		queueDo("hold", "keep messages from leaving"), queueDo("release", "let held messages leave"),
		queueDo("retry", "try messages now"), queueDo("delete", "remove messages; nobody is told"))
	return c
}

// filters are the words by which messages are chosen.
type filters struct{ from, to, destination, state, grant, who, reply string }

func (f *filters) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.from, "from", "", "reverse-path `ADDRESS`, @domain or <>")
	fl.StringVar(&f.to, "to", "", "recipient `ADDRESS` or @domain")
	fl.StringVar(&f.destination, "destination", "", "`DOMAIN` that it goes to")
	fl.StringVar(&f.state, "is", "", "`STATE` as the list shows it: fresh, deferred, held, ...")
	fl.StringVar(&f.grant, "grant", "", "`REASON` of its grant: authenticated, trusted_client, inbound")
	fl.StringVar(&f.who, "who", "", "`NAME` of the identity, trusted client or domain that was granted")
	fl.StringVar(&f.reply, "reply", "", "`TEXT` in the last reply")
}

func (f *filters) query() url.Values {
	v := url.Values{"messages": {"1"}}
	for name, value := range map[string]string{"from": f.from, "to": f.to, "destination": f.destination, "state": f.state, "grant": f.grant, "who": f.who, "reply": f.reply} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

func queueList() *cobra.Command {
	var p place
	var f filters
	var messages, asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "print what waits, by destination or by message", Args: cobra.NoArgs,
		Example: `  # destinations
  postern queue list

  # the messages of one sender
  postern queue list --messages --from anna@example.org`,
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			query := f.query()
			if messages = messages || len(query) > 1; !messages {
				query = url.Values{}
			}
			for {
				var page serve.QueuePage
				if err := control.Get(c.Context(), "/queue?"+query.Encode(), &page); err != nil {
					return controlError(c, err)
				}
				if err := printPage(c.OutOrStdout(), page, messages, asJSON); err != nil {
					return &exit{code: exitIO, err: err}
				}
				if page.Next == "" {
					return nil
				}
				query.Set("after", page.Next)
			}
		},
	}
	c.Flags().BoolVar(&messages, "messages", false, "by message instead of destination")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object for each page")
	f.add(c)
	p.add(c)
	return c
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
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s %s\t%s\n", id, state, at, size, m.From, to.Grant.To, to.Grant.Reason, to.Grant.Who, m.Hold)
			}
		}
		return t.Flush()
	}
	fmt.Fprintln(t, "DESTINATION\tMESSAGES\tHELD\tOLDEST\tLAST REPLY")
	for _, d := range page.Destinations {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", d.Name, d.Messages, d.Held, ageOf(d.Oldest), d.Reply)
	}
	return t.Flush()
}

func queueShow() *cobra.Command {
	var p place
	var body bool
	c := &cobra.Command{
		Use: "show ID", Short: "print one message: where it came from, why it was accepted", Args: cobra.ExactArgs(1),
		Example: `  postern queue show 06G1JX6QZR8V3KTM`,
		RunE: func(c *cobra.Command, args []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			path := "/queue/" + url.PathEscape(args[0])
			if body {
				if err := control.Get(c.Context(), path+"/body", c.OutOrStdout()); err != nil {
					return controlError(c, err)
				}
				return nil
			}
			var m serve.QueuedMessage
			if err := control.Get(c.Context(), path, &m); err != nil {
				return controlError(c, err)
			}
			printMessage(c.OutOrStdout(), m)
			return nil
		},
	}
	c.Flags().BoolVar(&body, "body", false, "print the message itself")
	p.add(c)
	return c
}

func printMessage(w io.Writer, m serve.QueuedMessage) {
	who := "a stranger"
	if m.Identity != "" {
		who = m.Identity
	}
	fmt.Fprintf(w, "%s  %s  %d octets  from %s (%s, %s) by listener %s\n", m.ID, m.From, m.Size, who, m.Peer, orNone(m.TLS, "no TLS"), m.Listener)
	fmt.Fprintf(w, "  accepted %s, %s\n", m.Accepted.Local().Format("2 Jan 2006 15:04:05 MST"), m.State)
	if m.Hold != "" {
		fmt.Fprintf(w, "  held: %s\n", m.Hold)
	}
	for _, to := range m.To {
		fmt.Fprintf(w, "  %s  granted: %s %s  %s\n", to.Grant.To, to.Grant.Reason, to.Grant.Who, to.Grant.Origin)
		for _, d := range to.Goes {
			fmt.Fprintf(w, "    %s  %s  %s\n", d.To, d.State, d.Last)
		}
	}
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

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
			if len(ids) == 0 {
				if ids, err = f.choose(c, control); err != nil {
					return err
				}
			}
			if len(ids) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "Nothing was chosen.")
				return nil
			}
			if !yes && (verb == "delete" || len(ids) > 1) {
				if err := confirm(c, verb, len(ids)); err != nil {
					return err
				}
			}
			done := 0
			for len(ids) > 0 {
				n := min(len(ids), 500)
				var count int
				if err := control.Post(c.Context(), "/queue/"+verb+"?"+url.Values{"id": ids[:n]}.Encode(), &count); err != nil {
					return controlError(c, err)
				}
				done, ids = done+count, ids[n:]
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", verb, plural(done, "message"))
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	f.add(c)
	p.add(c)
	return c
}

// choose lists the ids that the filters pass; without a filter, none.
func (f *filters) choose(c *cobra.Command, control *serve.Control) ([]string, error) {
	query := f.query()
	if len(query) == 1 {
		return nil, usage("name messages by their ids, or choose them by a filter; see --help")
	}
	query.Set("max", "1000")
	var ids []string
	for {
		var page serve.QueuePage
		if err := control.Get(c.Context(), "/queue?"+query.Encode(), &page); err != nil {
			return nil, controlError(c, err)
		}
		for _, m := range page.Messages {
			ids = append(ids, m.ID)
		}
		if page.Next == "" {
			return ids, nil
		}
		query.Set("after", page.Next)
	}
}

func confirm(c *cobra.Command, verb string, n int) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usage("%s %s: say --yes", verb, plural(n, "message"))
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s %s? [y/N] ", verb, plural(n, "message"))
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
