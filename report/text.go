package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/door"
	"postern/remedy"
	"postern/verdict"
)

// TextOptions say how a report is printed for people.
type TextOptions struct {
	Colour     bool   // red for what is open, and nothing else
	Transcript string // the form whose conversations are printed too; "all" is every one, "" none
	Flags      string // of the command line that made the report, to be repeated in the one that checks again
}

// WriteText prints the report for a person: the answer in the first line, then
// the proof, then what to do. What servers said is made harmless.
func WriteText(w io.Writer, r Report, o TextOptions) error {
	t := &text{layout: layout{w: w}, r: r, o: o}
	t.headline()
	if worst := r.worst(); worst != nil {
		switch r.Verdict() {
		case verdict.Open:
			t.open(worst)
		case verdict.Accepts, verdict.Inconclusive:
			t.doubt(worst)
		case verdict.Closed:
			t.closed()
		case verdict.NotTested:
			t.advice()
		}
		t.others(worst)
		t.guessed()
		t.shares()
		t.notes()
	}
	t.transcripts()
	return t.err
}

// A text is one report on its way to a person.
type text struct {
	layout
	r Report
	o TextOptions
}

// worst returns the door that gives the target its verdict, or nil when no
// port was reached.
func (r Report) worst() *Door {
	var worst *Door
	for i := range r.Addresses {
		if d := r.Addresses[i].Worst(); d != nil && (worst == nil || d.Verdict.Worse(worst.Verdict)) {
			worst = d
		}
	}
	return worst
}

// doors returns all tested ports of all addresses.
func (r Report) doors() []*Door {
	var all []*Door
	for i := range r.Addresses {
		for k := range r.Addresses[i].Doors {
			all = append(all, &r.Addresses[i].Doors[k])
		}
	}
	return all
}

// again is what a person types to check the target once more.
func (r Report) again(o TextOptions) string {
	return strings.TrimSpace(quote(cmp.Or(r.Given, r.Host)) + " " + o.Flags)
}

// quote makes one word of a shell's from a target: lists of targets come from
// elsewhere.
func quote(s string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_:", r)
	}
	if s != "" && s[0] != '-' && !strings.ContainsFunc(s, odd) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

const red, plain = "\x1b[31m", "\x1b[0m"

var answers = map[verdict.Verdict]string{
	verdict.Open: "OPEN", verdict.Closed: "CLOSED", verdict.NotTested: "NOT TESTED",
	verdict.Accepts: "DOUBTFUL", verdict.Inconclusive: "DOUBTFUL",
}

// headline writes the answer.
func (t *text) headline() {
	v := t.r.Verdict()
	name := visible(cmp.Or(t.r.Given, t.r.Host))
	answer := answers[v]
	margin := fmt.Sprintf("%-15s %-8s ", name, answer)
	lines := fold(visible(t.answer(v)), max(20, width-len([]rune(margin))), width-25)
	if t.o.Colour && v == verdict.Open {
		margin = strings.Replace(margin, " OPEN ", " "+red+"OPEN"+plain+" ", 1)
	}
	for _, s := range lines {
		t.line(margin + s)
		margin = strings.Repeat(" ", 25)
	}
}

func (t *text) answer(v verdict.Verdict) string {
	worst := t.r.worst()
	switch v {
	case verdict.Open:
		p := worst.Proof
		through := cmp.Or(visible(p.EgressName), p.Egress.String())
		switch p.Kind {
		case verdict.KindForward:
			if p.Lost {
				return "mail proxy that loses its clients' addresses: strangers' mail leaves through " + through
			}
			return "forwarded port: strangers' mail leaves through " + through
		case verdict.KindSOCKS, verdict.KindConnect:
			return fmt.Sprintf("open proxy (%s, port %d): strangers' mail leaves through %s", spoken(worst), worst.Addr.Port(), through)
		case verdict.KindSMTP:
		}
		return "relays strangers' mail: " + places(t.r, func(d *Door) bool { return d.Verdict == verdict.Open })
	case verdict.Accepts:
		return "accepts: " + worst.Why + late(worst)
	case verdict.Inconclusive:
		return "inconclusive: " + worst.Why
	case verdict.Closed:
		text := places(t.r, func(d *Door) bool { return d.Verdict == verdict.Closed })
		for _, d := range t.r.doors() {
			if d.Sure == verdict.Likely {
				return text + ": likely, and not certain" + late(d)
			}
		}
		return text
	case verdict.NotTested:
	}
	return notTested(t.r)
}

// late says until when an arrival would still change the verdict.
func late(d *Door) string {
	if d.Until.IsZero() {
		return ""
	}
	return "; what arrives later is recognised until " + d.Until.Format("2 Jan 15:04 MST")
}

// spoken is what a proxy speaks, for people.
func spoken(d *Door) string {
	words := "HTTP"
	if d.Door == door.SOCKS {
		words = "SOCKS"
	}
	if d.Session.TLS != "" {
		words += " inside TLS"
	}
	return words
}

// open writes the proof, why it is so and what to do, and the same of every
// other way by which mail leaves.
func (t *text) open(worst *Door) {
	t.proof(worst)
	t.part("why", worst.Why)
	t.software(worst)
	told := []verdict.Kind{worst.Proof.Kind}
	for _, d := range t.r.doors() {
		if d.Proof == nil || slices.Contains(told, d.Proof.Kind) {
			continue
		}
		told = append(told, d.Proof.Kind)
		t.part("also", places(t.r, func(o *Door) bool { return o.Proof != nil && o.Proof.Kind == d.Proof.Kind })+": "+d.Why)
		t.proof(d)
		t.software(d)
	}
	t.steps(t.remedy())
}

// proof writes the message that came through, and its way.
func (t *text) proof(worst *Door) {
	p := worst.Proof
	arrived := p.Arrival
	when := ""
	if !p.AcceptedAt().IsZero() {
		when = "accepted " + p.AcceptedAt().Format("15:04:05") + ", "
	}
	t.part("proof", fmt.Sprintf("%s %sarrived %s from %s", visible(arrived.ForwardPath), when,
		arrived.At.Format("15:04:05 MST"), visible(p.Where())))
	for _, n := range p.Notes {
		t.part("", n)
	}
	if len(p.Hops) > 0 {
		t.part("way", strings.Join(p.Path(), "; then "))
	}
	t.part("form", p.Form.ID+more(worst)+"; conversation: --transcript "+p.Form.ID)
}

// more names the other forms that came through, or how many there are.
func more(d *Door) string {
	var others []string
	for _, f := range d.Forms {
		if f.State == verdict.Arrived && f.Form.ID != d.Proof.Form.ID {
			others = append(others, f.Form.ID)
		}
	}
	switch {
	case len(others) == 0:
		return ""
	case len(others) <= 4:
		return " (and " + strings.Join(others, ", ") + ")"
	}
	return fmt.Sprintf(" (and %d more)", len(others))
}

func (t *text) software(d *Door) {
	s := remedy.Identify(d.Judgement)
	if s.Why == "" {
		return
	}
	guess := "looks like "
	if s.Sure {
		guess = ""
	}
	t.part("server", guess+s.Title+", "+s.Why)
}

// remedy returns the steps for every port that has something to close, each
// step once, and at the end one that checks all of them again.
func (t *text) remedy() []remedy.Step {
	var steps []remedy.Step
	var last remedy.Step
	for _, d := range t.r.doors() {
		list := remedy.For(d.Judgement, t.r.again(t.o))
		if len(list) == 0 {
			continue
		}
		for _, s := range list[:len(list)-1] {
			if !slices.Contains(steps, s) {
				steps = append(steps, s)
			}
		}
		last = both(last, list[len(list)-1])
	}
	if last.Text == "" {
		return steps
	}
	return append(steps, last)
}

// both returns the step that checks again what either of two would.
func both(one, other remedy.Step) remedy.Step {
	if one.Text == "" {
		return other
	}
	_, forms, _ := strings.Cut(one.Command, " --form ")
	_, more, _ := strings.Cut(other.Command, " --form ")
	for _, id := range strings.Split(more, ",") {
		if !slices.Contains(strings.Split(forms, ","), id) {
			one.Command += "," + id
		}
	}
	return one
}

func (t *text) steps(list []remedy.Step) {
	label, n, of := "do", 0, ""
	for _, s := range list {
		mark := "-"
		if s.Of == "" {
			n++
			mark = fmt.Sprintf("%d.", n)
		} else if s.Of != of { // each is another answer to the same question
			t.item(label, "", "If it is "+s.Of+":", "")
			label = ""
		}
		t.item(label, mark, s.Text, s.Command)
		label, of = "", s.Of
	}
}

// advice writes what would help where nothing could be tested.
func (t *text) advice() {
	var given []string
	for _, d := range t.r.doors() {
		if !slices.Contains(given, d.Do) {
			given = append(given, d.Do)
			t.part("do", d.Do)
		}
	}
}

// doubt writes what would lead to a certain answer.
func (t *text) doubt(worst *Door) {
	for _, f := range worst.Forms {
		if f.State == verdict.Accepted {
			t.part("form", f.Form.ID+"; conversation: --transcript "+f.Form.ID)
			break
		}
	}
	t.part("where", places(t.r, func(d *Door) bool { return d.Verdict == worst.Verdict }))
	t.software(worst)
	// Where arrivals cannot be seen, seeing them comes before mending anything.
	if steps := t.remedy(); len(steps) > 0 && worst.Blind == "" {
		t.steps(steps)
		return
	}
	t.part("do", worst.Do)
}

// closed writes what was tried at each kind of door, and backscatter, which is
// no relay and a nuisance all the same.
func (t *text) closed() {
	var kinds []door.Door
	for _, d := range t.r.doors() {
		if d.Verdict == verdict.Closed && !slices.Contains(kinds, d.Door) {
			kinds = append(kinds, d.Door)
		}
	}
	for _, k := range kinds {
		t.closedAt(k, len(kinds) == 1)
	}
	for _, d := range t.r.doors() {
		if a := d.Backscatter; a != nil {
			t.part("exhibit", fmt.Sprintf("a notice from %s (%s) to %s at %s", a.Peer.Addr(), visible(cmp.Or(a.PTR, a.Helo)),
				visible(a.ForwardPath), a.At.Format("15:04:05 MST")))
			t.software(d)
			break
		}
	}
	t.steps(t.remedy())
}

// closedAt writes what was tried at the doors of one kind.
func (t *text) closedAt(k door.Door, alone bool) {
	var why []string
	for _, d := range t.r.doors() {
		if d.Door != k {
			continue
		}
		if d.Verdict == verdict.Closed && !slices.Contains(why, d.Why) {
			why = append(why, d.Why)
		}
	}
	text := strings.Join(why, "; ")
	if codes := t.r.refusals(k); len(codes) > 0 {
		text += "; answers: " + strings.Join(codes, ", ")
	}
	if alone {
		text += "; in " + span(t.r.Took)
	}
	t.part(k.String(), text)
}

// refusals returns the codes of the refusals at the doors of one kind, or what
// a proxy said there, the most frequent first.
func (r Report) refusals(k door.Door) []string {
	count := map[string]int{}
	for _, d := range r.doors() {
		for _, f := range d.Forms {
			switch {
			case d.Door != k || f.State != verdict.Refused:
			case f.Stage == verdict.AtProxy && f.Said != "":
				count[visible(f.Said)]++
			case !f.Reply.IsZero():
				count[strings.TrimSpace(fmt.Sprintf("%d %s", f.Reply.Code, f.Reply.Enhanced))]++
			}
		}
	}
	codes := make([]string, 0, len(count))
	for c := range count {
		codes = append(codes, c)
	}
	slices.SortFunc(codes, func(a, b string) int { return cmp.Or(count[b]-count[a], strings.Compare(a, b)) })
	return codes[:min(4, len(codes))]
}
