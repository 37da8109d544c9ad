package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// stage is one list of a hearing and how it ended.
type stage struct {
	name  string
	rules []restriction
	said  outcome
	at    int
	why   reason
}

// hear asks all lists. Only when none refuses does the message pass.
func (s *scope) hear(a attempt, bold bool) (heard []stage, passes bool) {
	delayed := s.yes("smtpd_delay_reject")
	if a.to.doubt.flaw != "" {
		return nil, false
	}
	for i, l := range stages {
		h := &hearing{scope: s, attempt: a, subject: l.subject, bold: bold}
		h.late = i < 3 && !delayed || i >= 5 && a.many
		if h.early = i < 2 && !delayed; i == 0 && !delayed {
			h.client.helo = ""
		}
		st := stage{name: l.list, rules: restrictions(l.subject, s.get(l.list))}
		st.said, st.at, st.why = h.walk(st.rules)
		if st.said == refuse {
			return nil, false
		}
		heard = append(heard, st)
	}
	if s.yes("smtpd_reject_unlisted_recipient") && s.undeliverable(a.to) {
		return nil, false
	}
	return heard, true
}

// try plays one attempt. by is the parameter that made its move possible.
func (s *scope) try(a attempt, by value, to *faults) {
	to.tried(s, a)
	if heard, passes := s.hear(a, false); passes {
		to.add(s, s.blame(a, by, heard), a, true)
		return
	}
	if heard, passes := s.hear(a, true); passes {
		to.add(s, s.doubt(heard), a, false)
	}
}

// A fault is the line that lets a stranger's message pass.
type fault struct {
	kind   string // proxy, xclient, early, routing, destination, missing
	stage  stage
	ground value // what to point at
}

// blame finds the line at fault: the move's parameter; else the restriction
// that permitted before one that refuses had its turn; else the parameter that
// made a foreign domain one of ours; else the lists, which refuse nobody.
func (s *scope) blame(a attempt, by value, heard []stage) fault {
	if by.text != "" {
		if strings.HasPrefix(a.form, "xclient") {
			return fault{kind: "xclient", ground: by}
		}
		direct := a
		direct.client.addr = a.from
		if _, passes := s.hear(direct, false); !passes {
			return fault{kind: "proxy", ground: by}
		}
	}
	for _, st := range heard {
		if st.said != permit {
			continue
		}
		if slices.ContainsFunc(st.rules[st.at+1:], refuses) || strings.EqualFold(st.rules[st.at].word.text, "permit_auth_destination") && a.to.routed {
			return s.early(a, st)
		}
	}
	var refuser bool
	for _, st := range heard {
		refuser = refuser || st.said != permit && slices.ContainsFunc(st.rules, refuses) && (!a.many || st.name != "smtpd_data_restrictions" && st.name != "smtpd_end_of_data_restrictions")
	}
	switch {
	case refuser && a.to.routed:
		return fault{kind: "routing", ground: s.raw("allow_untrusted_routing").whole()}
	case refuser && a.to.class != foreign:
		return fault{kind: "destination", ground: a.to.by}
	}
	for _, st := range heard {
		if st.said == permit && (st.name == "smtpd_relay_restrictions" || st.name == "smtpd_recipient_restrictions") {
			return s.early(a, st)
		}
	}
	return fault{kind: "missing", ground: s.raw("smtpd_relay_restrictions").whole()}
}

// doubt finds the restriction whose answer is not known, and that would keep
// one that refuses from its turn.
func (s *scope) doubt(heard []stage) fault {
	i := slices.IndexFunc(heard, func(st stage) bool {
		return st.why.undecided != "" && slices.ContainsFunc(st.rules[st.at+1:], refuses)
	})
	if i < 0 { // it stands in the list behind, or last
		i = max(0, slices.IndexFunc(heard, func(st stage) bool { return st.why.undecided != "" }))
	}
	st := heard[i]
	f := fault{kind: "early", stage: st, ground: s.raw(st.name).whole()}
	if st.at < len(st.rules) {
		f.ground = st.rules[st.at].word
	}
	return f
}

// early is a fault of a restriction that permitted too soon. Where it did so
// because an address has a way on, the parameter that allows this is at fault.
func (s *scope) early(a attempt, st stage) fault {
	if a.to.routed && a.to.class == relayed {
		return fault{kind: "routing", ground: s.raw("allow_untrusted_routing").whole()}
	}
	ground := st.why.ground
	if ground.text == "" {
		ground = st.rules[st.at].word
	}
	return fault{kind: "early", stage: st, ground: ground}
}

// whole returns a setting as a ground: its name, at its line.
func (s setting) whole() value { return written(s.name, s.at) }

// faults gathers what the attempts found, each line once, and what was played.
type faults struct {
	order    []string
	by       map[string]*found
	forms    map[string]bool // of package plan
	attempts int
	ports    []*scope
	dead     []*scope              // of these, where Postfix ends before it serves anybody
	keep     func(*scope, attempt) // for tests: sees each attempt
}

type found struct {
	fault
	scope    *scope
	proved   bool
	forms    []string
	services []string
	grounds  []value
}

func newFaults() *faults { return &faults{by: map[string]*found{}, forms: map[string]bool{}} }

// tried counts an attempt.
func (f *faults) tried(s *scope, a attempt) {
	f.attempts++
	if a.form != "" {
		f.forms[a.form] = true
	}
	if f.keep != nil {
		f.keep(s, a)
	}
}

func (f *faults) add(s *scope, x fault, a attempt, proved bool) {
	rule := ""
	if x.kind == "early" {
		rule = x.stage.rules[x.stage.at].text()
	}
	own := ""
	if x.kind == "early" && strings.EqualFold(rule, "permit_mynetworks") {
		own = x.ground.text // each network is a finding of its own
	}
	key := fmt.Sprint(proved, s.local, x.kind, x.stage.name, rule, own, s.pos(x.ground.place()).File)
	if own != "" || x.kind != "early" {
		key += fmt.Sprint(x.ground.place())
	}
	e := f.by[key]
	if e == nil {
		e = &found{fault: x, scope: s, proved: proved}
		f.by[key], f.order = e, append(f.order, key)
	}
	if a.form != "" && !slices.Contains(e.forms, a.form) {
		e.forms = append(e.forms, a.form)
	}
	if !slices.Contains(e.services, s.service.name) {
		e.services = append(e.services, s.service.name)
	}
	same := func(v value) bool { return v.text == x.ground.text && v.place() == x.ground.place() }
	if !slices.ContainsFunc(e.grounds, same) {
		e.grounds = append(e.grounds, x.ground)
	}
}

// findings returns them in words, in the order in which they were found.
func (f *faults) findings(c *postfixConfig) []Finding {
	var list []Finding
	for _, key := range f.order {
		list = append(list, f.by[key].finding(c))
	}
	return list
}
