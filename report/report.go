// Package report says what a check found: as text for people, as JSON, JUnit
// and SARIF for machines. It adds nothing to the judgements but words.
package report

import (
	"net/netip"
	"time"

	"postern/door"
	"postern/verdict"
)

// A Report is what one target gave, an Address for each of its addresses.
type Report struct {
	Given     string // as the person named the target
	Host      string // the name, or the address when no name was given
	Addresses []Address
	Failure   string // why there is no address: the name does not resolve, the target is not ours to test
	Started   time.Time
	Took      time.Duration
}

// An Address is what one address of the target gave.
type Address struct {
	IP    netip.Addr
	Doors []Door   // the ports that were tested
	Shut  []uint16 // ports on which nothing listens
	Ports []uint16 // all ports that were tried
}

// A Door is one tested port.
type Door struct {
	Door door.Door
	verdict.Judgement
}

// Verdict returns the worst verdict of the target's addresses.
func (r Report) Verdict() verdict.Verdict {
	worst := verdict.NotTested
	for _, a := range r.Addresses {
		if v := a.Verdict(); v.Worse(worst) {
			worst = v
		}
	}
	return worst
}

// Verdict returns the worst verdict of the address's ports.
func (a Address) Verdict() verdict.Verdict {
	worst := verdict.NotTested
	for _, d := range a.Doors {
		if d.Verdict.Worse(worst) {
			worst = d.Verdict
		}
	}
	return worst
}

// Worst returns the door that gives the address its verdict, or nil.
func (a Address) Worst() *Door {
	var worst *Door
	for i := range a.Doors {
		if worst == nil || a.Doors[i].Verdict.Worse(worst.Verdict) {
			worst = &a.Doors[i]
		}
	}
	return worst
}
