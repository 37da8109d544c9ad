package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"postern/serve"
)

// printTunnels prints one in full, several as a list.
func printTunnels(w io.Writer, list []serve.TunnelTrace, more bool) error {
	if len(list) == 0 {
		return nil
	}
	if len(list) == 1 {
		return printTunnel(w, &list[0], more)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ASKED\tID\tTUNNEL\tWHO\tPEER\tPLACE\tUP\tDOWN")
	for i := range list {
		m := &list[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Asked.Local().Format("2 Jan 15:04:05.000"), told(m.ID), told(strings.TrimSuffix(m.State+": "+m.Cause, ": ")),
			told(orNone(m.Identity, "(stranger)")), told(orNone(m.Peer, "-")), told(orNone(m.Place, "-")), octets(m.Up), octets(m.Down))
	}
	return endList(w, t, more)
}

// printTunnel prints who asked for a tunnel, where it led, by which line, and
// how it ended.
func printTunnel(w io.Writer, m *serve.TunnelTrace, more bool) error {
	fmt.Fprintf(w, "%s  tunnel  %s\n", told(m.ID), told(m.State))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	who := "a stranger"
	if m.Identity != "" {
		who = m.Identity
	}
	fmt.Fprintf(t, "  from\t%s\t%s by gateway %s\n", told(who), told(orNone(m.Peer, "(no address)")), told(m.Gateway))
	to := m.Addr
	if a, err := netip.ParseAddrPort(m.Addr); err == nil {
		to = a.Addr().String()
	}
	grant := ""
	if m.Grant != "" {
		grant = "granted: " + strings.TrimSpace(m.Grant+" "+m.Identity+"  "+m.At)
	}
	fmt.Fprintf(t, "  to\t%s\t%s\n", told(orNone(m.Place, "(nowhere)")), told(strings.TrimSpace(to+"  "+grant)))
	if err := t.Flush(); err != nil {
		return err
	}
	at := m.Asked.Local()
	fmt.Fprintf(w, "  %s\n", at.Format("Mon 2 Jan 2006 MST"))
	carried := fmt.Sprintf("%s up, %s down", octets(m.Up), octets(m.Down))
	why := strings.TrimSuffix(": "+told(m.Why), ": ")
	if m.Done.IsZero() || m.Cause == "" {
		fmt.Fprintf(w, "  %s  opened\n", at.Format("15:04:05.000"))
	}
	switch {
	case m.Cause != "":
		fmt.Fprintf(w, "  %s  refused: %s%s\n", m.Done.Local().Format("15:04:05.000"), told(m.Cause), strings.Replace(why, ": ", ", ", 1))
	case !m.Done.IsZero():
		fmt.Fprintf(w, "  %s  ended after %s, %s%s\n", m.Done.Local().Format("15:04:05.000"), m.Done.Sub(m.Asked).Round(time.Millisecond), carried, why)
	case m.State == "open":
		fmt.Fprintf(w, "  until now %s\n", carried)
	default:
		fmt.Fprintln(w, "  the relay ended before it was noted how")
	}
	if more {
		fmt.Fprintln(w, "  (the newest; there are more: --max, --since, --until)")
	}
	return nil
}
