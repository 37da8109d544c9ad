package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"postern/check"
	"postern/plan"
	"postern/report"
	"postern/verdict"
)

// ahead is how many targets for each place may have begun while one before
// them is not done: what they said waits in memory for its turn.
const ahead = 4

// A stream prints reports in the order of the targets, each as soon as those
// before it are printed, so that memory does not grow with their number.
type stream struct {
	out     io.Writer
	write   func(io.Writer, report.Report) error // one report, as text or JSON
	summary bool                                 // keep what is needed for documents about all targets
	live    *live

	room   chan struct{} // holds an item for each target that has begun and is not printed
	broken chan struct{} // closed with the first error

	mu      sync.Mutex
	next    int            // the target that is printed next
	waiting map[int][]byte // printed, but for the order
	kept    []report.Report
	worst   verdict.Verdict
	code    int
	err     error
}

// checkAll checks the targets, some side by side. A target that may not be
// tested ends up in its own report when there are others.
func (s *stream) checkAll(ctx context.Context, c *check.Checker, targets []plan.Target, parallel int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.room, s.broken = make(chan struct{}, ahead*parallel), make(chan struct{})
	s.waiting, s.worst, s.code = map[int][]byte{}, verdict.NotTested, exitNothing
	if s.summary {
		s.kept = make([]report.Report, len(targets))
	}
	places := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, t := range targets {
		places <- struct{}{}
		select {
		case s.room <- struct{}{}:
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
				s.live.finished(i+1, len(targets))
			}
			if s.failed() != nil {
				cancel() // nobody reads what the others find
			}
			<-places
		})
	}
	wg.Wait()
	return s.failed()
}

// take prints the report of the target i, and those that have waited for it.
func (s *stream) take(i int, r report.Report, failure error) {
	if failure != nil {
		r.Failure = failure.Error()
	}
	var text bytes.Buffer
	err := s.write(&text, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := r.Verdict(); v.Worse(s.worst) {
		s.worst, s.code = v, r.ExitCode()
	}
	if s.summary {
		s.kept[i] = r.Summary()
	}
	s.waiting[i] = text.Bytes()
	for s.err == nil && err == nil {
		text, ok := s.waiting[s.next]
		if !ok {
			return
		}
		delete(s.waiting, s.next)
		s.next++
		<-s.room
		err = s.live.above(s.out, text)
	}
	if s.err == nil {
		s.err = &exit{code: exitIO, err: err}
		close(s.broken)
	}
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
