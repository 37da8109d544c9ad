package doctor

import (
	"context"
	"fmt"

	"postern/internal/problem"
	"postern/internal/state"
)

// A File is what the configuration names besides itself.
type File struct {
	Path   string
	At     problem.Pos
	Secret bool // a key or a login
}

// checkState: nobody but the relay's user, and root, could change what is read
// from the state folder.
func checkState(_ context.Context, s Server, m Machine) []Finding {
	if s.State == "" || m.Judge == nil {
		return nil
	}
	found := problem.All(m.Judge(s.State, s.Reader.User))
	if len(found) == 0 {
		return []Finding{{Level: OK, What: s.State + " is the relay's own"}}
	}
	return fromProblems(found, Problem)
}

// fromProblems are findings of a level; what only warns is a Warning.
func fromProblems(found []*problem.Problem, level Level) []Finding {
	var list []Finding
	for _, p := range found {
		f := Finding{Level: level, At: p.At, What: p.What, Do: p.Do}
		if p.Warning {
			f.Level = Warning
		}
		list = append(list, f)
	}
	return list
}

// checkFiles: secrets are for the relay alone, and the user whom it goes on as
// can read what a reload reads.
func checkFiles(_ context.Context, s Server, _ Machine) []Finding {
	var list []Finding
	for _, f := range s.Files {
		if f.Secret {
			list = append(list, fromProblems(problem.All(state.Secret(f.Path, f.At)), Problem)...)
		}
		if err := s.Reader.Reads(f.Path); err != nil {
			list = append(list, Finding{
				Level: Problem, At: f.At,
				What: fmt.Sprintf("the relay goes on as user %s, who may not read %s: it starts as root, and the next reload or renewal fails (%v)", s.ReaderName, f.Path, err),
				Do:   fmt.Sprintf("give it to a group that this user is in, and let the group read it: chgrp GROUP %s, chmod 640 %s", f.Path, f.Path),
			})
		}
	}
	if len(list) == 0 && len(s.Files) > 0 {
		list = []Finding{{Level: OK, What: fmt.Sprintf("user %s can read what the configuration names, and secrets are for nobody else", s.ReaderName)}}
	}
	return list
}

// checkSandbox: a kernel without Landlock shuts the relay in less.
func checkSandbox(_ context.Context, _ Server, m Machine) []Finding {
	if m.Landlock == nil {
		return nil
	}
	switch version := m.Landlock(); {
	case version == 0:
		return []Finding{{
			Level: Warning, What: "this kernel has no Landlock, or it is switched off: the relay can reach every file that its user can",
			Do: "take a kernel from 5.19 on, and have landlock among those of lsm= at its start",
		}}
	case version < portsVersion:
		return []Finding{{
			Level: Note, What: fmt.Sprintf("Landlock of version %d keeps the relay from files and not from ports", version),
			Do: "a kernel from 6.7 on keeps it from ports too",
		}}
	default:
		return []Finding{{Level: OK, What: fmt.Sprintf("Landlock of version %d keeps the relay to its files and ports", version)}}
	}
}

// portsVersion is the first version of Landlock that knows ports.
const portsVersion = 4
