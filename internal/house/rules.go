// Package house holds the code to its plan: which package may import which, where each library
// enters, what the core may never touch, and that the picture in ARCHITECTURE.md is true.
// The checks are pure functions over data, so that each is shown to fail on a made-up graph.
package house

import (
	"fmt"
	"slices"
	"strings"
)

// Rules is layers.txt, read strictly.
type Rules struct {
	rows   []row // top first
	allow  []arrow
	never  []arrow
	nocall []arrow
	only   []entry
}

type row struct {
	name     string
	packages []string
	line     int
}

// An arrow goes from each name on its left to each on its right.
type arrow struct {
	from, to []string
	why      string
	line     int
}

// An entry names the packages where libraries may be imported.
type entry struct {
	libraries []string
	places    []string
	line      int
}

// testRow names the row that only tests may import, and that may import all.
const testRow = "test"

// ParseRules reads the text of layers.txt. Errors start with the line's number.
func ParseRules(text string) (Rules, error) {
	var r Rules
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if err := r.add(i+1, fields); err != nil {
			return Rules{}, fmt.Errorf("layers.txt:%d: %w", i+1, err)
		}
	}
	return r, r.validate()
}

func (r *Rules) add(line int, fields []string) error {
	word, rest := fields[0], fields[1:]
	switch word {
	case "allow", "never", "nocall":
		a, err := parseArrow(rest)
		if err != nil {
			return err
		}
		a.line = line
		list := map[string]*[]arrow{"allow": &r.allow, "never": &r.never, "nocall": &r.nocall}[word]
		*list = append(*list, a)
	case "only":
		colon := slices.Index(rest, ":")
		if colon < 1 || colon == len(rest)-1 {
			return fmt.Errorf("write it as: only LIBRARY... : PACKAGE")
		}
		r.only = append(r.only, entry{rest[:colon], rest[colon+1:], line})
	default:
		if len(rest) == 0 {
			return fmt.Errorf("row %s has no package", word)
		}
		r.rows = append(r.rows, row{word, rest, line})
	}
	return nil
}

func parseArrow(fields []string) (arrow, error) {
	tip, colon := slices.Index(fields, "->"), slices.Index(fields, ":")
	if tip < 1 || colon < tip+2 || colon == len(fields)-1 {
		return arrow{}, fmt.Errorf("write it as: FROM... -> TO... : why")
	}
	return arrow{from: fields[:tip], to: fields[tip+1 : colon], why: strings.Join(fields[colon+1:], " ")}, nil
}

// validate finds lines that could never hold anything: names that stand in no row, rows or
// packages named twice, an allow that is no step sideways.
func (r *Rules) validate() error {
	seen := map[string]int{}
	for _, w := range r.rows {
		for _, name := range append([]string{w.name}, w.packages...) {
			if first, ok := seen[name]; ok {
				return fmt.Errorf("layers.txt:%d: %s stands already in line %d", w.line, name, first)
			}
			seen[name] = w.line
		}
	}
	for _, a := range slices.Concat(r.never, r.nocall) {
		for _, name := range a.from {
			if _, ok := seen[name]; !ok {
				return fmt.Errorf("layers.txt:%d: %s is neither a row nor a package of one", a.line, name)
			}
		}
	}
	for _, a := range r.allow {
		for _, from := range a.from {
			for _, to := range a.to {
				f, t := r.rowOf(from), r.rowOf(to)
				if f < 0 || f != t {
					return fmt.Errorf("layers.txt:%d: %s -> %s is no step within a row", a.line, from, to)
				}
			}
		}
	}
	return nil
}

// entryOf returns the name in the rows that pkg belongs to: itself, or the closest folder above.
func (r *Rules) entryOf(pkg string) string {
	best := ""
	for _, w := range r.rows {
		for _, name := range w.packages {
			if within(pkg, name) && len(name) > len(best) {
				best = name
			}
		}
	}
	return best
}

// rowOf returns the index of the row that pkg stands in, or -1.
func (r *Rules) rowOf(pkg string) int {
	name := r.entryOf(pkg)
	return slices.IndexFunc(r.rows, func(w row) bool { return name != "" && slices.Contains(w.packages, name) })
}

// covers reports whether name, as it stands in a rule, means pkg: a row, a package of ours or a
// folder above it, a path outside as it is, or all below a path outside with "/...".
func (r *Rules) covers(name, pkg string) bool {
	if i := r.rowOf(pkg); i >= 0 {
		return r.rows[i].name == name || within(pkg, name)
	}
	if above, ok := strings.CutSuffix(name, "/..."); ok {
		return strings.HasPrefix(pkg, above+"/")
	}
	return pkg == name
}

func (r *Rules) coversAny(names []string, pkg string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return r.covers(name, pkg) })
}

// within reports whether pkg is folder or lies below it.
func within(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}
