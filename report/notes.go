package report

import (
	"fmt"
	"slices"
	"strings"

	"postern/door"
	"postern/plan"
	"postern/remedy"
	"postern/verdict"
)

// shares writes how much of the battery was really played, and what was not.
func (t *text) shares() {
	played := t.r.doors()
	played = slices.DeleteFunc(played, func(d *Door) bool { return d.NotTested != "" || d.Verdict == verdict.NotTested })
	if len(played) == 0 {
		return
	}
	least := played[0]
	for _, d := range played {
		if d.Tested < least.Tested {
			least = d
		}
	}
	text := percent(least.Tested)
	if len(played) > 1 && slices.ContainsFunc(played, func(d *Door) bool { return d.Tested > least.Tested }) {
		text += " at the least, at " + least.Addr.String() + ","
	}
	whole := 0
	for _, f := range plan.At(least.Door) {
		if f.Set != plan.Login && f.Set != plan.Inside {
			whole++
		}
	}
	// Forms that would look the same on the wire are played once, so a whole
	// battery may have a few less than the table.
	if n := len(least.Forms); n < whole/2 {
		text += fmt.Sprintf(" of %s; the whole battery has %d", forms(n), whole)
	} else {
		text += fmt.Sprintf(" of the battery, %s", forms(n))
	}
	t.part("tested", text)
	for _, g := range reasons(played, func(f verdict.FormResult) bool { return f.State == verdict.Untested && !f.Needs }) {
		t.part("untested", fmt.Sprintf("%s: %s", forms(len(g.forms)), g.why))
	}
	for _, g := range reasons(played, func(f verdict.FormResult) bool { return f.Needs && !strings.HasPrefix(f.Why, "the same as ") }) {
		need, ok := strings.CutPrefix(g.why, "needs ")
		switch {
		case ok && len(g.forms) == 1:
			need = " needs " + need
		case ok:
			need = " need " + need
		default:
			need = ": " + g.why
		}
		t.part("left out", forms(len(g.forms))+need)
	}
}

func forms(n int) string {
	if n == 1 {
		return "1 form"
	}
	return fmt.Sprintf("%d forms", n)
}

// A reason is why some forms were not decided.
type reason struct {
	why   string
	forms []string
}

// reasons groups the chosen forms of all doors by why they were not decided,
// the reason with the most forms first.
func reasons(doors []*Door, choose func(verdict.FormResult) bool) []reason {
	var list []reason
	for _, d := range doors {
		for _, f := range d.Forms {
			if !choose(f) {
				continue
			}
			i := slices.IndexFunc(list, func(r reason) bool { return r.why == f.Reason })
			if i < 0 {
				i = len(list)
				list = append(list, reason{why: f.Reason})
			}
			if !slices.Contains(list[i].forms, f.Form.ID) {
				list[i].forms = append(list[i].forms, f.Form.ID)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b reason) int { return len(b.forms) - len(a.forms) })
	return list
}

// A note is what is no relay and yet worth knowing, of the doors of which is
// true.
type note struct {
	is   func(*Door) bool
	text string
	step func(verdict.Judgement) remedy.Step // nil when there is nothing to mend
}

var notes = []note{
	{offers("VRFY"), "announces VRFY, which tells strangers what mailboxes there are", remedy.VRFY},
	{offers("ETRN"), "announces ETRN, by which strangers start the queue", remedy.ETRN},
	{clearLogin, "offers login without TLS", remedy.Login},
	{insideTLS, "a proxy that is reached inside TLS, as a client must be told: https:// with HTTP", nil},
	{granted("socks5-bind"), "lets strangers wait for connections at its address (BIND)", nil},
	{granted("socks5-udp"), "relays strangers' datagrams (UDP ASSOCIATE)", nil},
	{func(d *Door) bool { return d.Elsewhere != nil && d.Verdict != verdict.Closed }, "leads strangers to other ports too", nil},
	{func(d *Door) bool { return d.CatchAll && d.Verdict != verdict.Accepts }, "takes mail for unknown recipients of its own domain (catch-all)", nil},
}

func offers(keyword string) func(*Door) bool {
	return func(d *Door) bool {
		_, ok := d.Session.Extensions[keyword]
		return ok
	}
}

// granted reports whether a proxy gave a stranger what a form of the set info
// asks for.
func granted(id string) func(*Door) bool {
	return func(d *Door) bool {
		for _, f := range d.Forms {
			if f.Form.ID == id && f.State == verdict.Noted {
				return true
			}
		}
		return false
	}
}

// clearLogin reports whether passwords would cross the network readable
// (RFC 8314 section 4.1).
func clearLogin(d *Door) bool { return d.Session.TLS == "" && offers("AUTH")(d) }

// insideTLS reports whether a proxy was found inside TLS; mail servers are
// often reached by it.
func insideTLS(d *Door) bool {
	return (d.Door == door.SOCKS || d.Door == door.Connect) && d.Session.TLS != "" && d.Verdict != verdict.NotTested
}

// notes writes each note once, with the ports that it is about.
func (t *text) notes() {
	// Of a forwarded port the server is somebody else's, who has to mend it.
	doors := slices.DeleteFunc(t.r.doors(), func(d *Door) bool { return d.Proof != nil && d.Proof.Kind == verdict.KindForward })
	for _, n := range notes {
		list := distinct(doors, n.is)
		if len(list) == 0 {
			continue
		}
		text := strings.ReplaceAll(numbers(list), " ", ", ") + ": " + n.text
		if n.step != nil {
			first := doors[slices.IndexFunc(doors, n.is)]
			text += " (no relay, but mend it: " + brief(n.step(first.Judgement)) + ")"
		}
		t.part("note", text)
	}
}

// brief is a step in one line.
func brief(s remedy.Step) string {
	if line, _, _ := strings.Cut(s.Command, "\n"); line != "" {
		return line
	}
	return strings.TrimSuffix(s.Text, ".")
}
