package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// verdict says what was read, how much was played against which ports, and
// what came of it: no output would be no answer.
func (f *faults) verdict(c *postfixConfig, worst Level) Finding {
	out := Finding{Check: "verdict"}
	played := fmt.Sprintf("%d forms, %d attempts in thought, on %s", len(f.forms), f.attempts, f.portNames())
	read := "read " + strings.Join(c.files[:min(len(c.files), 6)], ", ")
	if more := len(c.files) - 6; more > 0 {
		read += fmt.Sprintf(" and %d more", more)
	}
	open, local, unsure := f.count()
	switch {
	case len(f.ports) == 0:
		out.What = "no service of master.cf takes SMTP from the network: nobody can relay"
	case open:
		out.Level, out.What = Problem, "open: a stranger relays; "+played
	case local:
		out.Level, out.What = Warning, "closed to the network, and open to whoever reaches this machine's own ports through a forwarder; "+played
	case unsure:
		out.Level, out.What = Note, "closed as far as it can be read, and not decided where a note says so; "+played
	case len(f.dead) == len(f.ports):
		out.Level, out.What = Warning, "nobody is served, and so nobody relays: mend what the warnings say, and ask again"
	case worst >= Warning:
		out.What = "closed: none of these forms relays, and there are warnings; " + played
	default:
		out.What = "closed: none of these forms relays; " + played
	}
	out.What += "; " + read
	return out
}

// count says whether a fault was proved at a port that strangers reach, at one
// that only this machine does, or not decided.
func (f *faults) count() (open, local, unsure bool) {
	for _, x := range f.by {
		switch {
		case !x.proved:
			unsure = true
		case x.scope.local:
			local = true
		default:
			open = true
		}
	}
	return open, local, unsure
}

// portNames names the ports, as master.cf does.
func (f *faults) portNames() string {
	var names []string
	for _, s := range f.ports {
		name := s.service.name
		if s.local {
			name += " (this machine only)"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 1 {
		return "port " + names[0]
	}
	return "ports " + strings.Join(names, ", ")
}
