package main

import (
	"io"
	"net/netip"
	"testing"

	"postern/check"
	"postern/lab"
)

// While the lab judges itself, a terminal sees how far it is.
func TestJudging(t *testing.T) {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	l := &lab.Lab{Specimens: []lab.Running{
		{Specimen: lab.Specimen{Name: "open"}, Addr: at(1)},
		{Specimen: lab.Specimen{Name: "closed"}, Addr: at(2)},
		{Specimen: lab.Specimen{Name: "greylist"}, Addr: at(3)},
	}}
	j := newJudging(l, newLive(io.Discard, true))
	for _, c := range []struct {
		event check.Event
		want  string
	}{
		{check.Event{Addr: at(1), Step: check.Playing}, "0 of 3 judged; waiting for closed, greylist, open"},
		{check.Event{Addr: at(1), Step: check.Judged}, "1 of 3 judged; waiting for closed, greylist"},
		{check.Event{Addr: at(1), Step: check.Judged}, "1 of 3 judged; waiting for closed, greylist"},
		{check.Event{Addr: at(3), Step: check.Judged}, "2 of 3 judged; waiting for closed"},
		{check.Event{Addr: at(2), Step: check.Judged}, "3 of 3 judged"},
	} {
		j.event(c.event)
		if got := j.text(); got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.event.Step, c.event.Addr, got, c.want)
		}
	}
}
