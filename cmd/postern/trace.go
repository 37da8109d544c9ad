package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/serve"
)

func traceCommand() *cobra.Command {
	var p place
	var s traceSearch
	var asJSON bool
	c := &cobra.Command{
		Use:   "trace [ID | MESSAGE-ID | ADDRESS]",
		Short: "what became of a message or a tunnel, from its beginning to its end",
		Long: `Trace finds messages that wait or have left, by the id that our replies and the
log show, by the Message-ID, or by an address, of the sender or a recipient. One
is printed in full, several as a list, the newest first. Tunnels of gateways are
found by the id that their client was told and the log shows, by --user and by
--peer.

The running relay is asked; when none runs, its state is read. What has left the
queue is remembered for 30 days (keep in block trace of the configuration).

Exit code: 0 found, 3 nothing was found.`,
		Example: `  # by its Message-ID
  postern trace '<r1@example.org>'

  # what went from one address to a domain since yesterday
  postern trace anna@example.org --to @far.example --since 1d

  # what a user has sent, and where their tunnels led, today
  postern trace --user anna --since 1d`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			searches, err := s.words(args, time.Now())
			if err != nil {
				return err
			}
			found, err := p.trace(c, searches, s.most)
			if err != nil {
				return err
			}
			if err := printTraces(c.OutOrStdout(), &found, asJSON); err != nil {
				return &exit{code: exitIO, err: err}
			}
			if len(found.messages)+len(found.tunnels) == 0 {
				return &exit{code: exitNothing, help: "No such message is known. It never came, was refused (the log says why), or is forgotten."}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&s.from, "from", "", "reverse-path `ADDRESS`, @domain or <>")
	f.StringVar(&s.to, "to", "", "recipient `ADDRESS` or @domain")
	f.StringVar(&s.user, "user", "", "sent, or opened, by `NAME`: a user or a trusted client")
	f.StringVar(&s.peer, "peer", "", "from the client at `ADDRESS`")
	f.StringVar(&s.since, "since", "", "accepted at or after `TIME`: 2h or 3d ago, 14:02, 2026-11-24, 2026-11-24T14:02")
	f.StringVar(&s.until, "until", "", "accepted before `TIME`")
	f.IntVar(&s.most, "max", 20, "at most `N` messages")
	f.BoolVar(&asJSON, "json", false, "print JSON, one object a message")
	p.add(c)
	return c
}

// traceSearch is what is looked for.
type traceSearch struct {
	from, to, user, peer, since, until string
	most                               int
}

// words returns the searches, of which the second is made when the first finds
// nothing: an address and a Message-ID look alike.
func (s *traceSearch) words(args []string, now time.Time) ([]url.Values, error) {
	if s.most < 1 {
		return nil, usage("--max %d: say how many messages, one at least", s.most)
	}
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("from", s.from)
	set("to", s.to)
	set("identity", s.user)
	if s.peer != "" {
		if _, err := netip.ParseAddr(s.peer); err != nil {
			return nil, usage("--peer: %q is no address; write it as 192.0.2.20", s.peer)
		}
		set("peer", s.peer)
	}
	for name, text := range map[string]string{"since": s.since, "until": s.until} {
		if text == "" {
			continue
		}
		at, err := moment(text, now)
		if err != nil {
			return nil, usage("--%s: %w", name, err)
		}
		set(name, at.Format(time.RFC3339Nano))
	}
	if len(args) == 0 {
		return []url.Values{v}, nil
	}
	with := func(names ...string) (list []url.Values) {
		for _, name := range names {
			each := url.Values{name: {args[0]}}
			for k := range v {
				each.Set(k, v.Get(k))
			}
			list = append(list, each)
		}
		return list
	}
	switch what := args[0]; {
	case !serve.AcceptedAt(strings.ToUpper(what)).IsZero():
		return []url.Values{{"id": {strings.ToUpper(what)}}}, nil
	case what == "<>":
		return nil, usage("all notices have the null reverse-path; look for them with --from '<>'")
	case strings.HasPrefix(what, "<"):
		return with("name", "address"), nil
	case strings.Contains(what, "@"):
		return with("address", "name"), nil
	default:
		return nil, usage("%q is neither an id (16 digits and capitals), nor a Message-ID, nor an address", what)
	}
}

// days are units that time.ParseDuration does not have.
var days = map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

var moments = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly}

// moment reads a time as people write it, of this place: how long ago, a time
// of today or, if that is still to come, of yesterday, or a date.
func moment(s string, now time.Time) (time.Time, error) {
	if unit := days[s[len(s)-1]]; unit > 0 {
		if n, err := strconv.ParseUint(s[:len(s)-1], 10, 16); err == nil {
			return now.Add(-time.Duration(n) * unit), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, form := range moments {
		if t, err := time.ParseInLocation(form, s, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, form := range []string{time.TimeOnly, "15:04"} {
		if t, err := time.Parse(form, s); err == nil {
			y, m, d := now.Date()
			at := time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if at.After(now) {
				at = time.Date(y, m, d-1, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			}
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2h or 3d for so long ago, 14:02, 2026-11-24, or 2026-11-24T14:02", s)
}

// lives are what a search has found, and whether there is more of each.
type lives struct {
	messages                  []serve.Trace
	tunnels                   []serve.TunnelTrace
	moreMessages, moreTunnels bool
}

// trace asks the relay, or, when none runs, reads what it left.
func (p *place) trace(c *cobra.Command, searches []url.Values, most int) (found lives, err error) {
	control, err := p.control()
	if err != nil {
		return lives{}, err
	}
	found, err = tracesOf(c.Context(), control, searches, most)
	if err == nil {
		return found, nil
	}
	var not *serve.NotRunningError
	if !errors.As(err, &not) || not.Starts != 0 {
		return lives{}, controlError(c, err)
	}
	folder, err := p.folder() // whose owner we are, since p.control
	if err != nil {
		return lives{}, err
	}
	left, done, err := serve.OpenTraces(folder)
	switch {
	case errors.Is(err, serve.ErrNotRunning):
		return lives{}, &exit{code: exitService, err: err}
	case err != nil:
		return lives{}, &exit{code: exitIO, err: err}
	}
	fmt.Fprintf(c.ErrOrStderr(), "no relay runs; read from %s\n", folder)
	found, err = tracesOf(c.Context(), left, searches, most)
	if err = errors.Join(err, done()); err != nil {
		return lives{}, &exit{code: exitIO, err: err}
	}
	return found, nil
}

func tracesOf(ctx context.Context, t serve.Tracer, searches []url.Values, most int) (found lives, err error) {
	for _, search := range searches {
		for len(found.messages) < most {
			search.Set("max", strconv.Itoa(most-len(found.messages)))
			page, err := t.Traces(ctx, search)
			if err != nil {
				return lives{}, err
			}
			found.messages, found.moreMessages = append(found.messages, page.Messages...), page.Next != ""
			if search.Get("after") == "" {
				found.tunnels, found.moreTunnels = page.Tunnels, page.More
			}
			if !found.moreMessages {
				break
			}
			search.Set("after", page.Next)
		}
		if len(found.messages)+len(found.tunnels) > 0 {
			break
		}
	}
	return found, nil
}

func printTraces(w io.Writer, found *lives, asJSON bool) error {
	if asJSON {
		for i := range found.messages {
			if err := json.NewEncoder(w).Encode(&found.messages[i]); err != nil {
				return err
			}
		}
		for i := range found.tunnels {
			if err := json.NewEncoder(w).Encode(&found.tunnels[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := printMessages(w, found.messages, found.moreMessages); err != nil {
		return err
	}
	if len(found.messages) > 0 && len(found.tunnels) > 0 {
		fmt.Fprintln(w)
	}
	return printTunnels(w, found.tunnels, found.moreTunnels)
}

func printMessages(w io.Writer, list []serve.Trace, more bool) error {
	if len(list) == 1 {
		return printTrace(w, &list[0], more)
	}
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACCEPTED\tID\tSTATE\tFROM\tTO")
	for i := range list {
		m := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.Accepted.Local().Format("2 Jan 15:04:05.000"), m.ID, m.State, told(m.From), told(recipients(m)))
	}
	return endList(w, t, more)
}

// endList prints the list and how to see more of it.
func endList(w io.Writer, t *tabwriter.Writer, more bool) error {
	if err := t.Flush(); err != nil {
		return err
	}
	hint := "postern trace ID prints one in full"
	if more {
		hint = "there are more: --max, --since, --until; " + hint
	}
	_, err := fmt.Fprintf(w, "\n%s\n", hint)
	return err
}

func recipients(m *serve.Trace) string {
	s := m.To[0].Recipient
	if n := len(m.To) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// printTrace prints one life: where the message came from, why each recipient
// was accepted, and what happened, one line each.
func printTrace(w io.Writer, m *serve.Trace, more bool) error {
	fmt.Fprintf(w, "%s  %s  %d octets  %s\n", m.ID, told(orNone(m.MessageID, "(no Message-ID)")), m.Size, m.State)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  from\t%s\t%s\n", told(m.From), told(whence(m)))
	for _, to := range m.To {
		fmt.Fprintf(t, "  to\t%s\tgranted: %s\n", told(to.Recipient), told(strings.TrimSpace(to.Reason+" "+to.Who+"  "+to.At)))
		for _, d := range to.Goes {
			if "<"+d.To+">" != to.Recipient {
				fmt.Fprintf(t, "\t  goes to %s\n", told(d.To))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	day := ""
	at := func(now time.Time) string {
		now = now.Local()
		if today := now.Format("Mon 2 Jan 2006 MST"); today != day {
			if err := t.Flush(); err == nil {
				fmt.Fprintf(w, "  %s\n", today)
			}
			day = today
		}
		return now.Format("15:04:05.000")
	}
	fmt.Fprintf(t, "  %s\taccepted\n", at(m.Accepted))
	for i := range m.Events {
		e := &m.Events[i]
		when := at(e.At)
		if e.To == "" {
			fmt.Fprintf(t, "  %s\t%s\n", when, told(strings.TrimSuffix(e.Event+": "+e.Note, ": ")))
			continue
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", when, told(e.To), e.Event, how(e))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, to := range m.To {
		for _, d := range to.Goes {
			if d.Waits == nil {
				continue
			}
			hint := ""
			if d.Waits.For == "operator" {
				hint = "; postern queue release " + m.ID + ", or delete"
			}
			fmt.Fprintf(w, "  %s %s%s\n", told(d.To), waits(d.Waits), hint)
		}
	}
	if more {
		fmt.Fprintln(w, "  (the newest; there are more: --max, --since, --until)")
	}
	return nil
}

// whence says who gave us the message.
func whence(m *serve.Trace) string {
	who := "from a stranger"
	if m.Identity != "" {
		who = "from " + m.Identity
	}
	words := []string{orNone(m.TLS, "no TLS")}
	if m.Peer != "" {
		words = append(words, m.Peer)
	}
	if m.Helo != "" {
		words = append(words, "as "+m.Helo)
	}
	return fmt.Sprintf("%s (%s) by listener %s", who, strings.Join(words, ", "), m.Listener)
}

// how says by whom an attempt went, and what was said.
func how(e *serve.TraceEvent) string {
	var words []string
	add := func(s string) {
		if s != "" {
			words = append(words, told(s))
		}
	}
	addr := e.Addr
	if a, err := netip.ParseAddrPort(addr); err == nil {
		addr = a.Addr().String()
	}
	add(strings.TrimSpace(e.Host + " " + addr))
	if e.Host != "" {
		add(orNone(e.TLS, "no TLS"))
	}
	if e.Reply != "" {
		words = append(words, `"`+told(e.Reply)+`"`)
	}
	add(e.Note)
	s := strings.Join(words, "  ")
	if !e.Next.IsZero() {
		s += fmt.Sprintf("; next %s (attempt %d)", e.Next.Local().Format("2 Jan 15:04:05"), e.Attempt)
	}
	return strings.TrimPrefix(s, "; ")
}

// longestTold is how many letters of one text of a stranger's are shown; --json
// has them all.
const longestTold = 400

// told returns a text that a stranger may have written so that it can do
// nothing to a terminal.
func told(s string) string {
	n := 0
	for i := range s {
		if n++; n > longestTold {
			return printable(s[:i]) + "…"
		}
	}
	return printable(s)
}
