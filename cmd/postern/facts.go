package main

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"postern/internal/problem"
)

// jsonFlag adds --json to a command that prints facts.
func jsonFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "json", false, "print JSON")
}

// printJSON writes one object on a line of its own. What it prints stands in
// docs/schemas.
func printJSON(w io.Writer, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return &exit{code: exitIO, err: err}
	}
	return nil
}

// A problemFact is a problem as JSON has it.
type problemFact struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	What    string `json:"what"`
	Do      string `json:"do,omitempty"`
	Warning bool   `json:"warning"`
}

// String is the line in which a person reads it.
func (f problemFact) String() string {
	p := problem.Problem{At: problem.Pos{File: f.File, Line: f.Line, Column: f.Column}, What: f.What, Do: f.Do, Warning: f.Warning}
	return p.Error()
}

func problemFacts(list []*problem.Problem) []problemFact {
	facts := make([]problemFact, 0, len(list))
	for _, p := range list {
		facts = append(facts, problemFact{p.At.File, p.At.Line, p.At.Column, p.What, p.Do, p.Warning})
	}
	return facts
}
