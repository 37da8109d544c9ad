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
	text := counted(least.Battery)
	if len(played) > 1 && slices.ContainsFunc(played, func(d *Door) bool { return d.Tested > least.Tested }) {
		text += "; this is the least, at " + least.Addr.String()
	}
	t.part("tested", text)
	for _, g := range reasons(played, func(f verdict.FormResult) bool { return f.State == verdict.Untested && !f.Needs }) {
		t.part("untested", fmt.Sprintf("%s: %s", forms(len(g.forms)), g.why))
	}
	for _, g := range reasons(played, func(f verdict.FormResult) bool { return f.Needs }) {
		need, ok := strings.CutPrefix(g.why, "needs ")
		switch {
		case g.why == theSame && len(g.forms) == 1:
			need = " says the same to this server as another one"
		case g.why == theSame:
			need = " say the same to this server as others"
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

// counted says how much of a battery was decided, in numbers that add up.
func counted(b verdict.Battery) string {
	text := fmt.Sprintf("%d of %s", b.Tested, forms(b.All))
	for _, rest := range []struct {
		n    int
		what string
	}{{b.Untested, "untested"}, {b.LeftOut, "left out"}, {b.NotAsked, "not asked for"}} {
		if rest.n > 0 {
			text += fmt.Sprintf("; %d %s", rest.n, rest.what)
		}
	}
	return text
}

// theSame stands for the reasons of all forms that say what another one says.
const theSame = "the same"

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
			why := f.Reason
			if strings.HasPrefix(why, verdict.TheSame) {
				why = theSame
			}
			i := slices.IndexFunc(list, func(r reason) bool { return r.why == why })
			if i < 0 {
				i = len(list)
				list = append(list, reason{why: why})
			}
			if !slices.Contains(list[i].forms, f.Form.Base()) {
				list[i].forms = append(list[i].forms, f.Form.Base())
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
	{func(d *Door) bool { return logins(d) == "untried" }, "lets strangers try to log in; whether a login that anybody could guess gets in was not tried (--try-logins)", nil},
	{insideTLS, "a proxy that is reached inside TLS, as a client must be told: https:// with HTTP", nil},
	{granted("socks5-bind"), "lets strangers wait for connections at its address (BIND)", nil},
	{granted("socks5-udp"), "relays strangers' datagrams (UDP ASSOCIATE)", nil},
	{func(d *Door) bool { return d.Elsewhere != nil && d.Verdict != verdict.Closed }, "leads strangers to other ports too", nil},
	{func(d *Door) bool { return d.CatchAll && d.Verdict != verdict.Accepts && d.Backscatter == nil }, "takes mail for unknown recipients of its own domain (catch-all)", nil},
	{func(d *Door) bool { return d.NoPostmaster() != "" }, "refuses mail for its postmaster, which each of its domains must take (RFC 5321 section 4.5.1)", nil},
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

// logins says what became of guessable logins at a door that asks strangers for
// one: untried, refused or taken; "" where none is asked for.
func logins(d *Door) string {
	state := ""
	if offers("AUTH")(d) {
		state = "untried"
	}
	for _, f := range d.Forms {
		if f.Answer == verdict.WantsLogin && state == "" {
			state = "untried"
		}
		if f.Form.Set != plan.Login || f.Outcome == verdict.NotOffered || f.Outcome == verdict.NotRun && f.Tried == "" {
			continue
		}
		if f.Login != "" || f.State == verdict.Arrived || f.State == verdict.Accepted {
			return "taken"
		}
		state = "refused"
	}
	return state
}

// guessed writes which logins were tried.
func (t *text) guessed() {
	for _, d := range t.r.doors() {
		for _, f := range d.Forms {
			if f.Tried == "" {
				continue
			}
			what := "refused"
			switch {
			case f.Login != "":
				what = "taken: " + f.Login
			case f.State == verdict.Untested:
				what = "undecided"
			}
			t.part("logins", fmt.Sprintf("port %d: %s; %s", d.Addr.Port(), what, f.Tried))
		}
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
