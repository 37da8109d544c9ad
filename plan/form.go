package plan

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"postern/door"
	"postern/internal/problem"
	"postern/mail"
)

//go:embed forms.tsv
var formsTSV string

//go:embed holes.tsv
var holesTSV string

// A Set says when a form is played.
type Set string

// The sets of forms.
const (
	Core   Set = "core"   // the few that find every hole seen so far; --quick plays no others
	Full   Set = "full"   // the rest of the battery
	Owner  Set = "owner"  // touches a mailbox of the target's: only for who owns it
	Info   Set = "info"   // proves nothing about mail; tells what the answers to the others mean
	Login  Set = "login"  // tries a guessable login: only on request
	Inside Set = "inside" // asks a proxy for its own machine: only for who owns it, and on request
)

// A Form is one trick of a probe: an envelope that must be refused, and how
// it is played. Sender and Recipient are templates; see Facts.
type Form struct {
	ID        string
	Door      door.Door
	Set       Set
	Sender    Template // what stands between the brackets of MAIL FROM; "" is the null path
	Recipient Template // the same of RCPT TO
	Move      Move
	Hole      string // key of the table of holes
	Source    string // where the trick is described

	As mail.Domain // stands for the target's host and domain; zero: those that are its facts
}

// A Move is what happens on the wire besides MAIL, RCPT and DATA: a name,
// which package probe knows, and its argument, which may be a template.
type Move struct {
	Name string // "" is no move
	Arg  Template
}

// All returns the forms of all doors, in the order in which they are played.
// The table is part of the program; a fault in it is a broken build, found by
// its test.
var All = sync.OnceValue(func() []Form {
	forms, err := parseForms("forms.tsv", formsTSV)
	if err != nil {
		panic(err)
	}
	return forms
})

// Forms returns the battery of a mail server, the forms of the smtp door.
var Forms = sync.OnceValue(func() []Form { return At(door.SMTP) })

// At returns the forms that are played at a door. A forwarded port speaks
// SMTP, and what it is shows only in the message that arrives, so its forms
// are those of the smtp door.
func At(d door.Door) []Form {
	if d == door.Forward {
		d = door.SMTP
	}
	var forms []Form
	for _, f := range All() {
		if f.Door == d {
			forms = append(forms, f)
		}
	}
	return forms
}

// Find returns the form with that id. An id with a name behind it, as
// helo-host=mx.example, is that form as it is played with this name.
func Find(id string) (Form, bool) {
	id, name, named := strings.Cut(id, "=")
	as, err := mail.ParseDomain(name)
	if named && (err != nil || as.IsLiteral()) {
		return Form{}, false
	}
	for _, f := range All() {
		switch {
		case f.ID != id:
		case !named:
			return f, true
		case f.NamesTarget():
			return f.Named(as), true
		}
	}
	return Form{}, false
}

// NamesTarget reports whether the form holds a name of the target's.
func (f Form) NamesTarget() bool {
	for _, t := range []Template{f.Sender, f.Recipient, f.Move.Arg} {
		params, _ := parseTemplate(t.params)
		for _, name := range []string{"host", "dom"} {
			if t.Uses(name) || params.Uses(name) {
				return true
			}
		}
	}
	return false
}

// Named returns the form as it is played with one more name of the target's: a
// server may trust one of its names and not the others.
func (f Form) Named(name mail.Domain) Form {
	f.ID, f.As = f.Base()+"="+name.ASCII(), name
	return f
}

// Base returns the id of the form in the table, whatever name it is played with.
func (f Form) Base() string {
	id, _, _ := strings.Cut(f.ID, "=")
	return id
}

// Why returns one sentence that says what a hole is.
func Why(hole string) string { return holes()[hole] }

var holes = sync.OnceValue(func() map[string]string {
	table := map[string]string{}
	for _, row := range rows(holesTSV) {
		if len(row.cells) == 2 {
			table[row.cells[0]] = row.cells[1]
		}
	}
	return table
})

type row struct {
	line  int
	cells []string
}

// rows splits a table: one line an entry, cells between tabs, # for comments.
func rows(text string) []row {
	var all []row
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		all = append(all, row{line: i + 1, cells: strings.Split(line, "\t")})
	}
	return all
}

func parseForms(file, text string) ([]Form, error) {
	var forms []Form
	seen := map[string]bool{}
	for _, r := range rows(text) {
		f, err := parseForm(r.cells)
		if err == nil && seen[f.ID] {
			err = fmt.Errorf("form %q stands twice", f.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, r.line, err)
		}
		seen[f.ID] = true
		forms = append(forms, f)
	}
	return forms, nil
}

func parseForm(cells []string) (Form, error) {
	if len(cells) != 8 {
		return Form{}, fmt.Errorf("%d cells; a form has 8: id, door, set, sender, recipient, move, hole, source", len(cells))
	}
	f := Form{ID: cells[0], Set: Set(cells[2]), Hole: cells[6], Source: cells[7]}
	var err error
	if f.Door, err = door.Parse(cells[1]); err != nil {
		return Form{}, err
	}
	switch f.Set {
	case Core, Full, Owner, Info, Login, Inside:
	default:
		return Form{}, fmt.Errorf("unknown set %q; the sets are core, full, owner, info, login, inside", cells[2])
	}
	if f.ID == "" || f.Source == "" {
		return Form{}, fmt.Errorf("a form needs an id and a source")
	}
	if Why(f.Hole) == "" {
		return Form{}, fmt.Errorf("unknown hole %q; add it to holes.tsv", f.Hole)
	}
	name, arg, _ := strings.Cut(cells[5], " ")
	if name == "-" {
		name = ""
	}
	f.Move.Name = name
	for _, t := range []struct {
		to   *Template
		text string
	}{{&f.Sender, cells[3]}, {&f.Recipient, cells[4]}, {&f.Move.Arg, arg}} {
		parsed, err := parseTemplate(t.text)
		if err != nil {
			return Form{}, err
		}
		*t.to = parsed
	}
	return f, nil
}

// Nearest returns the id of the form that a mistyped id most likely means.
func Nearest(id string) string {
	var ids []string
	for _, f := range All() {
		ids = append(ids, f.ID)
	}
	id, _, _ = strings.Cut(id, "=")
	return problem.Nearest(id, ids)
}
