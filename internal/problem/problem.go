// Package problem is how Postern tells a person what is wrong: where, what,
// and what to do, in that order and in one line. Every message of the
// configuration, of the proof and of the self-audit is one.
package problem

import (
	"errors"
	"strconv"
)

// A Pos is a place in a text that a person wrote. The zero Pos is none.
type Pos struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`   // from 1
	Column int    `json:"column,omitempty"` // in characters, from 1; 0: the line as a whole
}

// IsZero reports whether p is no place at all.
func (p Pos) IsZero() bool { return p == Pos{} }

// String returns file:line:column as editors read it; without a line, the file.
func (p Pos) String() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.Itoa(p.Line)
	}
	if p.Line > 0 && p.Column > 0 {
		s += ":" + strconv.Itoa(p.Column)
	}
	return s
}

// A Problem is one thing that somebody must or should mend.
type Problem struct {
	At      Pos
	What    string // what is wrong, with the value
	Do      string // what to do; "" where What says it
	Warning bool   // it does not stop anything
}

// Error returns "where: what; what to do".
func (p *Problem) Error() string {
	s := p.What
	if p.Do != "" {
		s += "; " + p.Do
	}
	if p.Warning {
		s = "warning: " + s
	}
	if !p.At.IsZero() {
		s = p.At.String() + ": " + s
	}
	return s
}

// At returns a problem as an error.
func At(at Pos, what, do string) error { return &Problem{At: at, What: what, Do: do} }

// Warn returns a problem that stops nothing.
func Warn(at Pos, what, do string) error { return &Problem{At: at, What: what, Do: do, Warning: true} }

// All returns the problems in an error tree, in order. An error that is none
// becomes one without a place.
func All(err error) []*Problem {
	if err == nil {
		return nil
	}
	var p *Problem
	switch e := err.(type) { //nolint:errorlint // the tree is walked here, node by node
	case *Problem:
		return []*Problem{e}
	case interface{ Unwrap() []error }:
		var all []*Problem
		for _, each := range e.Unwrap() {
			all = append(all, All(each)...)
		}
		return all
	}
	if errors.As(err, &p) {
		return []*Problem{p}
	}
	return []*Problem{{What: err.Error()}}
}

// Split parts an error into what stops and what only warns; each is nil when
// there is none.
func Split(err error) (fatal, warnings error) {
	var stop, warn []error
	for _, p := range All(err) {
		if p.Warning {
			warn = append(warn, p)
		} else {
			stop = append(stop, p)
		}
	}
	return errors.Join(stop...), errors.Join(warn...)
}
