package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"postern/catch"
)

// catchFlags are those of serve --catch.
type catchFlags struct {
	on     bool
	listen []string
	page   string
	keep   string
}

// Where the catcher is when nobody says.
const (
	catchPort = 1025
	catchPage = "127.0.0.1:8025"
)

func (f *catchFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.on, "catch", false, "for developers: take all mail from loopback, deliver none, show it")
	c.Flags().StringSliceVar(&f.listen, "listen", nil, "with --catch: `ADDRESS:PORT` on loopback for SMTP (default 127.0.0.1:1025 and [::1]:1025)")
	c.Flags().StringVar(&f.page, "page", catchPage, "with --catch: `ADDRESS:PORT` on loopback for the page")
	c.Flags().StringVar(&f.keep, "keep", "", "with --catch: a `FOLDER` that keeps the messages (default: memory)")
}

// alone refuses flags that mean something else together.
func (f *catchFlags) alone(c *cobra.Command) error {
	of := map[bool][]string{true: {"config", "state", "user", "no-sandbox"}, false: {"listen", "page", "keep"}}[f.on]
	for _, name := range of {
		if c.Flags().Changed(name) && f.on {
			return usage("--%s is not for --catch, which has no configuration and delivers nothing; leave it out", name)
		}
		if c.Flags().Changed(name) {
			return usage("--%s is for --catch; where the relay listens is in its configuration", name)
		}
	}
	return nil
}

func (f *catchFlags) options() (catch.Options, error) {
	o := catch.Options{Keep: f.keep, SMTP: []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), catchPort), netip.AddrPortFrom(netip.IPv6Loopback(), catchPort),
	}}
	if len(f.listen) > 0 {
		o.SMTP = nil
	}
	for _, text := range append([]string{f.page}, f.listen...) {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return o, usage("%q is no address and port; write 127.0.0.1:1025 or [::1]:1025", text)
		}
		if !o.HTTP.IsValid() {
			o.HTTP = a
			continue
		}
		o.SMTP = append(o.SMTP, a)
	}
	return o, nil
}

// runCatch takes mail and shows it until it is told to stop.
func runCatch(ctx context.Context, w io.Writer, f catchFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	out := &lines{w: w}
	o.Caught = func(m catch.Message) { out.printf("%s\n", caughtLine(m)) }
	c, err := catch.New(o)
	var far *catch.NotLoopbackError
	switch {
	case errors.As(err, &far):
		return &exit{code: exitForbidden, err: err}
	case err != nil:
		return &exit{code: exitService, err: err}
	}
	var where []string
	for _, a := range c.SMTP {
		where = append(where, a.String())
	}
	out.printf("postern %s catches mail; it delivers nothing, to nobody\n\n", version())
	out.printf("  smtp  %s   any login or none, no TLS\n  page  http://%s/\n", strings.Join(where, " "), c.HTTP)
	for _, why := range c.Skipped {
		out.printf("  not   %s\n", why)
	}
	if f.keep != "" {
		out.printf("  kept in %s\n", f.keep)
	}
	out.printf("\ntry   curl 'http://%s/api/messages/wait?to=anna@example.org&timeout=5s'\n\n", c.HTTP)
	if err := c.Run(ctx); err != nil {
		return &exit{code: exitService, err: err}
	}
	return nil
}

// caughtLine is one message on a terminal: time, from, to, subject, size.
func caughtLine(m catch.Message) string {
	to := ""
	if len(m.To) > 0 {
		to = plain(m.To[0], 20)
	}
	if more := len(m.To) - 1; more > 0 {
		to += fmt.Sprintf(" +%d", more)
	}
	head := fmt.Sprintf("%s  %s  %s -> %s  %s  ", m.At.Local().Format("15:04:05"), strings.TrimLeft(m.ID, "0"), plain(m.From, 20), to, sizeText(m.Size))
	return head + plain(m.Subject, max(5, columns-utf8.RuneCountInString(head)-1))
}

func sizeText(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return strconv.Itoa(n) + " B"
}

// plain cuts text that others wrote, and takes what a terminal could obey out.
func plain(s string, most int) string {
	runes := []rune(s)
	if len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsGraphic(r) || r == '\u00a0' {
			return '·'
		}
		return r
	}, s)
}
