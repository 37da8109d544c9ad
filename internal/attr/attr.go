// Package attr holds the names of log attributes: one word for one thing in
// every line, so that lines can be searched and joined.
package attr

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// The attributes. What a stranger wrote is quoted by the handler; nothing here
// is ever a secret.
func Message(id string) slog.Attr          { return slog.String("message", id) }
func Session(id string) slog.Attr          { return slog.String("session", id) }
func Listener(name string) slog.Attr       { return slog.String("listener", name) }
func Peer(a netip.Addr) slog.Attr          { return slog.String("peer", a.String()) }
func Helo(name string) slog.Attr           { return slog.String("helo", name) }
func Identity(name string) slog.Attr       { return slog.String("identity", name) }
func Grant(g fmt.Stringer) slog.Attr       { return slog.String("grant", g.String()) }
func ReversePath(p fmt.Stringer) slog.Attr { return slog.String("reverse_path", p.String()) }
func ForwardPath(p fmt.Stringer) slog.Attr { return slog.String("forward_path", p.String()) }
func Code(n int) slog.Attr                 { return slog.Int("code", n) }
func Took(d time.Duration) slog.Attr       { return slog.Duration("took", d) }
func At(place fmt.Stringer) slog.Attr      { return slog.String("at", place.String()) }
func Err(err error) slog.Attr              { return slog.String("err", err.Error()) }
func Destination(name string) slog.Attr    { return slog.String("destination", name) }
func Attempt(n int) slog.Attr              { return slog.Int("attempt", n) }
