package report

import "postern/verdict"

// ExitCode returns what a program that checked this target exits with: 0
// closed, 1 open, 2 doubtful, 3 nothing could be tested.
func (r Report) ExitCode() int {
	switch r.Verdict() {
	case verdict.Closed:
		return 0
	case verdict.Open:
		return 1
	case verdict.Accepts, verdict.Inconclusive:
		return 2
	case verdict.NotTested:
	}
	return 3
}
