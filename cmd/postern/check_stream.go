package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"postern/check"
	"postern/plan"
	"postern/report"
)

// begunForEach is how many targets for each place may have begun and be
// undecided. Most of them only wait, and that costs some memory and no place.
const begunForEach = 4

// A stream prints each report when its target is decided, so that nobody waits
// for the slowest and memory does not grow with the number of targets.
type stream struct {
	out     io.Writer
	write   func(io.Writer, report.Report) error // one report, as text or JSON
	summary bool                                 // keep what is needed for documents about all targets
	live    *live

	broken chan struct{} // closed with the first error

	total int // targets

	mu   sync.Mutex
	done int
	kept []report.Report // in the order of the targets
	code int
	err  error
}

// checkAll checks the targets, some side by side. A target that may not be
// tested ends up in its own report when there are others.
func (s *stream) checkAll(ctx context.Context, c *check.Checker, targets []plan.Target, parallel int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.broken, s.code, s.total = make(chan struct{}), exitOK, len(targets)
	if s.summary {
		s.kept = make([]report.Report, len(targets))
	}
	begun := make(chan struct{}, begunForEach*parallel)
	var wg sync.WaitGroup
	for i, t := range targets {
		select {
		case begun <- struct{}{}:
		case <-s.broken:
		}
		if s.failed() != nil {
			break
		}
		wg.Go(func() {
			r, err := c.Check(ctx, t)
			var notOurs *check.NotOursError
			if len(targets) == 1 && errors.As(err, &notOurs) {
				s.fail(&exit{code: exitForbidden, err: err, help: howToOwn(t)})
			} else {
				s.take(i, r, err)
			}
			if s.failed() != nil {
				cancel() // nobody reads what the others find
			}
			<-begun
		})
	}
	wg.Wait()
	return s.failed()
}

// take prints the report of the target i.
func (s *stream) take(i int, r report.Report, failure error) {
	if failure != nil {
		r.Failure = failure.Error()
	}
	var text bytes.Buffer
	err := s.write(&text, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = worseExit(s.code, r.ExitCode())
	if s.summary {
		s.kept[i] = r.Summary()
	}
	if s.err != nil {
		return
	}
	if err == nil {
		err = s.live.above(s.out, text.Bytes())
	}
	if err != nil {
		s.err = &exit{code: exitIO, err: err}
		close(s.broken)
		return
	}
	s.done++
	s.live.finished(s.done, s.total)
}

// worseExit returns the code of the worse of two targets. One of which nothing
// could be learned is worse than one that is closed: a name with a slip in it
// must not stay green for ever.
func worseExit(a, b int) int {
	order := []int{exitOK, exitNothing, exitDoubtful, exitOpen}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.broken)
	}
}

func (s *stream) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
