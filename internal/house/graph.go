package house

import (
	"fmt"
	"slices"
	"strings"
)

// Package is what the checks need to know of one. Paths of our own packages are relative to the
// module ("smtp"), all others are as imported ("net/netip").
type Package struct {
	Path        string
	Doc         string
	Files       []string // without tests
	Imports     []string
	TestImports []string
}

// Check returns what the packages do against the rules, one finding a line, in their order.
func Check(r Rules, packages []Package) []string {
	var findings []string
	for _, p := range packages {
		if r.rowOf(p.Path) < 0 {
			findings = append(findings, fmt.Sprintf("%s stands in no row; give it one in layers.txt", p.Path))
			continue
		}
		if len(p.Files) > 0 && p.Doc == "" {
			findings = append(findings, fmt.Sprintf("%s has no package comment; say what it is for and what it keeps true", p.Path))
		}
		findings = append(findings, r.checkRows(p)...)
		findings = append(findings, r.checkLibraries(p)...)
	}
	return append(findings, r.checkNever(packages)...)
}

// checkRows holds each import of ours to the picture: down is free, sideways needs an allow.
func (r *Rules) checkRows(p Package) []string {
	from := r.rowOf(p.Path)
	if r.rows[from].name == testRow {
		return nil
	}
	var findings []string
	for _, imp := range p.Imports {
		to := r.rowOf(imp)
		switch {
		case to < 0, r.entryOf(imp) == r.entryOf(p.Path):
		case r.rows[to].name == testRow:
			findings = append(findings, fmt.Sprintf("%s -> %s: only tests import the row %q", p.Path, imp, testRow))
		case to < from:
			findings = append(findings, fmt.Sprintf("%s -> %s: the row %s may not import %s above it", p.Path, imp, r.rows[from].name, r.rows[to].name))
		case to == from && !r.allowed(p.Path, imp):
			findings = append(findings, fmt.Sprintf("%s -> %s: both stand in the row %s; a step sideways needs an allow", p.Path, imp, r.rows[from].name))
		}
	}
	return findings
}

func (r *Rules) allowed(from, to string) bool {
	return slices.ContainsFunc(r.allow, func(a arrow) bool { return r.coversAny(a.from, from) && r.coversAny(a.to, to) })
}

// checkLibraries holds each import of somebody else's code to its place of entry.
func (r *Rules) checkLibraries(p Package) []string {
	var findings []string
	check := func(imp string, test bool) {
		if r.rowOf(imp) >= 0 || !outside(imp) {
			return
		}
		e, ok := r.entryFor(imp)
		switch {
		case !ok:
			findings = append(findings, fmt.Sprintf("%s -> %s: the library has no place of entry; give it a line \"only\" in layers.txt", p.Path, imp))
		case r.coversAny(e.places, p.Path):
		case test && slices.Contains(e.places, "tests"):
		default:
			findings = append(findings, fmt.Sprintf("%s -> %s: the library enters only in %s (layers.txt:%d)", p.Path, imp, strings.Join(e.places, ", "), e.line))
		}
	}
	for _, imp := range p.Imports {
		check(imp, r.rows[r.rowOf(p.Path)].name == testRow)
	}
	for _, imp := range p.TestImports {
		check(imp, true)
	}
	return findings
}

// outside reports whether imp comes from neither us nor the standard library, whose paths have no
// dot in their first element.
func outside(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

// entryFor returns the line of the longest library path that holds imp.
func (r *Rules) entryFor(imp string) (best entry, ok bool) {
	longest := -1
	for _, e := range r.only {
		for _, lib := range e.libraries {
			if within(imp, lib) && len(lib) > longest {
				best, longest, ok = e, len(lib), true
			}
		}
	}
	return best, ok
}

// checkNever walks from each package through our own ones and shows the first way to what it may
// never reach. Of packages outside it sees the imports of ours, not what lies behind them.
func (r *Rules) checkNever(packages []Package) []string {
	byPath := map[string]Package{}
	for _, p := range packages {
		byPath[p.Path] = p
	}
	var findings []string
	for _, a := range r.never {
		for _, p := range packages {
			if !r.coversAny(a.from, p.Path) {
				continue
			}
			if way := r.wayTo(a.to, p.Path, byPath); way != nil {
				findings = append(findings, fmt.Sprintf("%s: never (layers.txt:%d), %s", strings.Join(way, " -> "), a.line, a.why))
			}
		}
	}
	return findings
}

// wayTo returns the shortest chain of imports from start to a package that targets cover, or nil.
func (r *Rules) wayTo(targets []string, start string, byPath map[string]Package) []string {
	before := map[string]string{start: ""}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		for _, imp := range byPath[queue[0]].Imports {
			if _, seen := before[imp]; seen {
				continue
			}
			before[imp] = queue[0]
			if r.coversAny(targets, imp) {
				var way []string
				for at := imp; at != ""; at = before[at] {
					way = append(way, at)
				}
				slices.Reverse(way)
				return way
			}
			queue = append(queue, imp)
		}
	}
	return nil
}
