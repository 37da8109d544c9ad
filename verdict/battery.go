package verdict

import (
	"slices"
	"strings"

	"postern/door"
	"postern/plan"
)

// A Battery counts the forms of a door's table: each is in one of the other
// fields, so that they add up to All. A form that was played with several names
// of the target counts once.
type Battery struct {
	All      int
	Tested   int // decided
	Untested int // played, or meant to be, and not decided
	LeftOut  int // a fact or a permission is missing, or others say the same to this server
	NotAsked int // nobody asked for them
}

// TheSame begins the reason why a form was left out that would have said to
// the server what another one says.
const TheSame = "the same as "

// measure computes the share of the battery that was decided. A form that
// lacks a fact or a permission does not apply; it is named in Needs.
func (j *Judgement) measure() {
	applies, decided := 0, 0
	for _, f := range j.Forms {
		if f.Form.Set == plan.Info {
			continue // decides nothing
		}
		if f.Outcome == NotRun && f.Needs {
			if !slices.Contains(j.Needs, f.Why) && !strings.HasPrefix(f.Why, TheSame) {
				j.Needs = append(j.Needs, f.Why)
			}
			continue
		}
		applies++
		if f.State != Untested {
			decided++
		}
	}
	if applies > 0 {
		j.Tested = float64(decided) / float64(applies)
	}
	j.count()
}

// count counts the forms of the table.
func (j *Judgement) count() {
	const leftOut, tested, untested = 1, 2, 3 // the last of a form's names decides
	state := map[string]int{}
	for _, f := range j.Forms {
		s := tested
		switch {
		case f.Outcome == NotRun && f.Needs:
			s = leftOut
		case f.State == Untested:
			s = untested
		}
		state[f.Form.Base()] = max(state[f.Form.Base()], s)
	}
	at := j.Door
	if at == 0 {
		at = door.SMTP
	}
	for _, f := range plan.At(at) {
		j.Battery.All++
		switch state[f.ID] {
		case leftOut:
			j.Battery.LeftOut++
		case tested:
			j.Battery.Tested++
		case untested:
			j.Battery.Untested++
		default:
			j.Battery.NotAsked++
		}
	}
}
