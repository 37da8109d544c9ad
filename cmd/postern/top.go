package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/serve"
)

func topCommand() *cobra.Command {
	var p place
	var once, asJSON bool
	c := &cobra.Command{
		Use:   "top",
		Short: "what the relay does now: destinations, rates, who is slow",
		Long: `Top shows for each destination what is under way and what waits, what it said
last, and whether it is left alone for a while. On a terminal it is drawn anew each
second; q ends it. Rates are means of the last ten seconds.`,
		Example: `  postern top

  # for a log
  postern top --once`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := p.control()
			if err != nil {
				return err
			}
			get := func(ctx context.Context) (serve.Top, error) {
				var t serve.Top
				err := control.Get(ctx, "/top", &t)
				return t, err
			}
			if screen, ok := c.OutOrStdout().(*os.File); ok && !once && !asJSON && term.IsTerminal(int(screen.Fd())) && term.IsTerminal(int(os.Stdin.Fd())) {
				if err := watchTop(c.Context(), screen, get); err != nil {
					return controlError(c, err)
				}
				return nil
			}
			t, err := get(c.Context())
			if err != nil {
				return controlError(c, err)
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(t)
			} else {
				_, err = io.WriteString(c.OutOrStdout(), drawTop(&t, time.Now(), false, widthOf(c.OutOrStdout())))
			}
			if err != nil {
				return &exit{code: exitIO, err: err}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&once, "once", false, "print it once")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, once")
	p.add(c)
	return c
}

// watchTop draws until q or Ctrl-C is pressed, or ctx ends.
func watchTop(ctx context.Context, screen *os.File, get func(context.Context) (serve.Top, error)) (err error) {
	// Opened so that closing it ends a read that waits; standard input would not.
	keys, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	was, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		keys.Close()
		return err
	}
	pressed := make(chan byte)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(pressed)
		one := make([]byte, 1)
		for {
			if _, err := keys.Read(one); err != nil {
				return
			}
			select {
			case pressed <- one[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	fmt.Fprint(screen, "\x1b[?1049h\x1b[?25l") // a screen of our own, without a cursor
	defer func() {
		cancel()
		keys.Close()
		for range pressed { // until it is closed: the reader has ended
			continue
		}
		fmt.Fprint(screen, "\x1b[?25h\x1b[?1049l")
		if errRestore := term.Restore(int(os.Stdin.Fd()), was); err == nil {
			err = errRestore
		}
	}()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		t, err := get(ctx)
		if err != nil {
			return err
		}
		width, height, err := term.GetSize(int(screen.Fd()))
		if err != nil || width < 1 || height < 1 {
			width, height = 80, 24
		}
		if _, err := io.WriteString(screen, framed(drawTop(&t, time.Now(), true, width), width, height)); err != nil {
			return err
		}
		select {
		case key, ok := <-pressed:
			if !ok || key == 'q' || key == 'Q' || key == 3 || key == 4 { // Ctrl-C, Ctrl-D
				return nil
			}
		case <-second.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// framed fits a text into a screen and draws over what is there.
func framed(text string, width, height int) string {
	var b strings.Builder
	b.WriteString("\x1b[H")
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if r := []rune(line); len(r) > width {
			line = string(r[:width])
		}
		b.WriteString(line + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

// wide is the width of a terminal in columns from which on the state of a
// destination stands beside its numbers, and not below them.
const wide = 120

// widthOf returns the width of a terminal; 0: it is none, and has room.
func widthOf(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// drawTop writes it as lines, for a width in columns; 0: any.
func drawTop(t *serve.Top, now time.Time, live bool, width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s   in %.1f/s   out %.1f/s   deferred %.1f/s   failed %.1f/s", t.At.Local().Format("15:04:05"), t.Rates.In, t.Rates.Out, t.Rates.Deferred, t.Rates.Failed)
	if live {
		b.WriteString("   q ends")
	}
	fmt.Fprintf(&b, "\nqueue: %d fresh, %d active, %d deferred, %d held\n", t.Messages["fresh"], t.Messages["active"], t.Messages["deferred"], t.Messages["held"])
	if t.Hold != "" {
		fmt.Fprintf(&b, "held: %s\n", told(t.Hold))
	}
	for _, o := range t.Breakouts {
		fmt.Fprintf(&b, "breakout of %s since %s: postern release %[1]s, or postern reject %[1]s\n", told(o.Who), o.Since.Local().Format("2 Jan 15:04:05"))
	}
	_ = printSuspended(&b, t.Suspended) // into memory
	for _, h := range t.Headerless {
		fmt.Fprintf(&b, "balancer %s passed on %d connections to %s without a PROXY header, the last at %s\n", h.Balancer, h.Connections, told(h.Listener), h.Last.Local().Format("2 Jan 15:04:05"))
	}
	b.WriteString("\n")
	if len(t.Destinations) == 0 {
		b.WriteString("Nothing waits.\n")
		return b.String()
	}
	below := width > 0 && width < wide
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	head := "DESTINATION\tACTIVE\tAHEAD\tLIMIT\tWAITING\tHELD\tOLDEST\tGAP"
	if !below {
		head += "\tSTATE"
	}
	fmt.Fprintln(w, head)
	for i := range t.Destinations {
		d := &t.Destinations[i]
		oldest := "-"
		if !d.Oldest.IsZero() {
			oldest = max(now.Sub(d.Oldest), 0).Round(time.Second).String()
		}
		name := told(orNone(d.Destination, "(postmaster)"))
		if r := []rune(name); below && len(r) > width-52 && width > 60 {
			name = "…" + string(r[len(r)-(width-53):]) // the end of a domain says more than its beginning
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s", name, d.Active, d.Ahead, d.Limit, d.Messages, d.Held, oldest, orNone(d.Gap, "-"))
		if !below {
			fmt.Fprintf(w, "\t%s", orNone(stateOf(d), "-"))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	for i, line := range strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n") {
		b.WriteString(line + "\n")
		if i > 0 && below && i <= len(t.Destinations) {
			if state := stateOf(&t.Destinations[i-1]); state != "" {
				b.WriteString("  " + state + "\n")
			}
		}
	}
	if t.More > 0 {
		fmt.Fprintf(&b, "and %d more: postern queue list\n", t.More)
	}
	return b.String()
}

// stateOf says what is with a destination: that it is left alone, or what it
// said last.
func stateOf(d *serve.TopDestination) string {
	if !d.Blocked.IsZero() {
		return fmt.Sprintf("left alone until %s: %s", d.Blocked.Local().Format("15:04:05"), told(d.Why))
	}
	return told(d.Reply)
}
