package lab

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"postern/check"
	"postern/plan"
	"postern/report"
	"postern/verdict"
)

// A Result is the verdict on one specimen beside the one that it deserves.
type Result struct {
	Specimen
	Got            verdict.Verdict
	Proof          string // the form whose message arrived first in the battery's order
	GotKind        verdict.Kind
	GotEgress      netip.Addr
	Arrived        []string
	GotBackscatter bool
	Why            string
	Took           time.Duration
	Report         report.Report
}

// Right reports whether the verdict is the one that the specimen deserves,
// proved by the form that must prove it, with the way and the address by which
// its mail left.
func (r Result) Right() bool {
	switch {
	case r.Got != r.Want, r.GotBackscatter != r.Backscatter, r.GotKind != r.Kind,
		r.Egress.IsValid() && r.GotEgress != r.Egress:
		return false
	}
	if r.Form == "" {
		return true
	}
	for _, id := range r.Arrived {
		if id == r.Form {
			return true
		}
	}
	return false
}

// Check judges the specimens of a running lab, a few side by side. Options must
// name the collector to which the lab hands what it takes, such as a
// collect.Local that runs: without one nothing can be proved open, and Check
// returns an error.
func Check(ctx context.Context, l *Lab, o check.Options) ([]Result, error) {
	c, err := check.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if why := c.Blind(); why != "" {
		return nil, errors.New("the lab's own collector does not work: " + why)
	}
	results := make([]Result, len(l.Specimens))
	errs := make([]error, len(l.Specimens))
	var wg sync.WaitGroup
	for i, s := range l.Specimens {
		wg.Go(func() { results[i], errs[i] = judge(ctx, c, s) })
	}
	wg.Wait()
	return results, errors.Join(errs...)
}

func judge(ctx context.Context, c *check.Checker, s Running) (Result, error) {
	r := Result{Specimen: s.Specimen}
	t, err := plan.ParseTarget(s.Target())
	if err != nil {
		return r, err
	}
	start := time.Now()
	r.Report, err = c.Check(ctx, t)
	r.Took = time.Since(start)
	r.Got, r.Why = r.Report.Verdict(), r.Report.Failure
	for _, a := range r.Report.Addresses {
		for _, d := range a.Doors {
			if d.Verdict == r.Got {
				r.Why = d.Why
			}
			r.GotBackscatter = r.GotBackscatter || d.Backscatter != nil
			if d.Proof != nil && r.Proof == "" {
				r.Proof, r.GotKind, r.GotEgress = d.Proof.Form.ID, d.Proof.Kind, d.Proof.Egress
			}
			for _, f := range d.Forms {
				if f.State == verdict.Arrived {
					r.Arrived = append(r.Arrived, f.Form.ID)
				}
			}
		}
	}
	return r, err
}
