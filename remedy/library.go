package remedy

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"postern/plan"
)

//go:embed *.md fingerprints.tsv
var files embed.FS

// general is the software that has a section for everything.
const general = "unknown"

// Keys of sections that are not the name of a hole.
const (
	keyInside  = "inside"              // how to reach the software that runs inside this one
	keyForward = "forwarded-port"      // how a port is handed on, and how to stop that
	keyLost    = "lost-client-address" // why every client looks local
	keyVRFY    = "vrfy"
	keyETRN    = "etrn"
	keyLogin   = "login-in-the-clear"
	keyTLS     = "proxy-inside-tls" // what may stand before a proxy that is reached inside TLS
)

var otherKeys = []string{keyInside, keyForward, keyLost, keyVRFY, keyETRN, keyLogin, keyTLS, "catch-all"}

// A library is all that is known, read from the files.
type library struct {
	manuals map[string]manual // by the name of the software
	prints  []fingerprint
}

// A manual is one software's file.
type manual struct {
	name     string
	title    string
	inside   string // the software that runs inside this one, "" when none does
	sections map[string][]Step
	order    []string // the headings as they stand, for the documentation
}

var known = sync.OnceValue(func() library {
	l, err := readLibrary()
	if err != nil {
		panic(err) // the files are part of the program; its test reads them
	}
	return l
})

func readLibrary() (library, error) {
	l := library{manuals: map[string]manual{}}
	entries, err := files.ReadDir(".")
	if err != nil {
		return l, err
	}
	var errs []error
	for _, e := range entries {
		name, isManual := strings.CutSuffix(path.Base(e.Name()), ".md")
		if !isManual {
			continue
		}
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return l, err
		}
		m, err := parseManual(e.Name(), string(text))
		m.name = name
		l.manuals[name] = m
		errs = append(errs, err)
	}
	for _, m := range l.manuals {
		if _, ok := l.manuals[m.inside]; m.inside != "" && !ok {
			errs = append(errs, fmt.Errorf("%s.md: inside: there is no %s.md", m.name, m.inside))
		}
	}
	text, err := files.ReadFile("fingerprints.tsv")
	if err != nil {
		return l, err
	}
	l.prints, err = parseFingerprints("fingerprints.tsv", string(text), l.manuals)
	return l, errors.Join(append(errs, err)...)
}

// names returns the names of all software, in the alphabet's order, the
// general one last.
func (l library) names() []string {
	var all []string
	for name := range l.manuals {
		if name != general {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return append(all, general)
}

// steps returns what closes a hole on a software: its own section; that of the
// software inside it, with the way there; or the general one.
func (l library) steps(software, key string) []Step {
	m := l.manuals[software]
	if s := m.sections[key]; len(s) > 0 {
		return s
	}
	if inner := l.manuals[m.inside].sections[key]; len(inner) > 0 {
		return slices.Concat(m.sections[keyInside], inner)
	}
	return l.manuals[general].sections[key]
}

func knownKey(key string) bool { return plan.Why(key) != "" || slices.Contains(otherKeys, key) }
