package remedy

import (
	"fmt"
	"slices"
	"strings"

	"postern/door"
	"postern/verdict"
)

// A Software is what a server was told by.
type Software struct {
	Name  string // of its file: "postfix"; "unknown" when nothing told it
	Title string // for people: "Postfix"
	Why   string // by what it was told, "" of the unknown
	Sure  bool   // two signs agree, or one that is rarely changed, and none speaks for another
}

// enough is the weight from which on an identification is sure: the name in
// the greeting alone, which anybody can write there, does not reach it.
const enough = 6

// Identify says which software answered. Behaviour weighs more than names,
// since a greeting is often changed and a refusal hardly ever.
func Identify(j verdict.Judgement) Software {
	l := known()
	said := heard(j)
	score, why := map[string]int{}, map[string][]string{}
	for _, f := range l.prints {
		for _, text := range said[f.where] {
			if m := f.pattern.FindString(text); m != "" {
				score[f.software] += f.weight
				why[f.software] = append(why[f.software], fmt.Sprintf("%s (%s)", words[f.where], quoted(m)))
				break
			}
		}
	}
	// What runs inside another shows its own signs too: they speak for both.
	for name := range score {
		if inner := l.manuals[name].inside; inner != "" {
			score[name] += score[inner]
			why[name] = append(why[name], why[inner]...)
		}
	}
	best, second := general, 0
	for _, name := range l.names() {
		switch {
		case score[name] > score[best]:
			if !l.contains(name, best) {
				second = max(second, score[best])
			}
			best = name
		case !l.contains(best, name):
			second = max(second, score[name])
		}
	}
	s := Software{Name: best, Title: l.manuals[best].title, Sure: score[best] >= enough && 2*second < score[best]}
	if best != general {
		s.Why = "told by " + strings.Join(why[best][:min(2, len(why[best]))], " and ")
	}
	return s
}

// contains reports whether one software runs inside the other or is it.
func (l library) contains(outer, inner string) bool {
	return outer == inner || l.manuals[outer].inside == inner
}

// quoted shows what a server said, in one line that can do no harm.
func quoted(s string) string {
	if r := []rune(s); len(r) > 40 {
		s = string(r[:39]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// proxied reports whether the port is a proxy's.
func proxied(j verdict.Judgement) bool { return j.Door == door.SOCKS || j.Door == door.Connect }

// heard collects what the server said, by the place where it said it.
func heard(j verdict.Judgement) map[where][]string {
	said := make(map[where][]string, len(words))
	add := func(w where, text string) {
		if text != "" && !slices.Contains(said[w], text) {
			said[w] = append(said[w], text)
		}
	}
	if proxied(j) {
		for _, f := range j.Forms {
			add(inProxy, f.Shown)
		}
		return said // what mail servers say behind it is not its own
	}
	add(inBanner, j.Session.Banner.Text())
	add(inHello, strings.Join(j.Session.Hello.Lines, "\n"))
	for _, a := range j.Asked {
		if a.Reply.Transient() || a.Reply.Permanent() {
			add(inRefusal, a.Reply.String())
		}
	}
	for _, f := range j.Forms {
		switch {
		case f.Reply.Transient() || f.Reply.Permanent():
			add(inRefusal, f.Reply.String())
		case f.Stage == verdict.AtMessage && f.Reply.Positive():
			add(inAccepted, f.Reply.String())
		}
		// The field that the tested server added is the first hop's; of a
		// forwarded port that is the server behind, which is what answers.
		if f.Arrival != nil && f.State == verdict.Arrived {
			if fields := f.Arrival.Fields().All("Received"); len(fields) > 0 {
				add(inReceived, strings.Join(strings.Fields(fields[len(fields)-1]), " "))
			}
		}
	}
	return said
}
