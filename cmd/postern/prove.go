package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"postern/policy"
)

// printProof prints a proof for people and writes it for machines.
func printProof(w io.Writer, p *policy.Proof, out string) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	switch out {
	case "":
	case "-":
		if _, err := w.Write(text); err != nil {
			return &exit{code: exitIO, err: err}
		}
		return closedOr(w, p, true)
	default:
		if err := os.WriteFile(out, text, 0o644); err != nil { //nolint:gosec // a proof is for others to read
			return &exit{code: exitIO, err: err}
		}
	}
	fmt.Fprintf(w, "policy %s\n\n", p.Policy)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  FROM\tTO\tWHOSE ADDRESSES")
	for _, c := range p.Classes {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", c.First, c.Last, c.Who)
	}
	fmt.Fprintln(t, "\t\t")
	for _, r := range slices.Sorted(maps.Keys(p.Granted)) {
		fmt.Fprintf(t, "  granted\t%d\t%s\n", p.Granted[r], r)
	}
	for _, r := range slices.Sorted(maps.Keys(p.Refused)) {
		fmt.Fprintf(t, "  refused\t%d\t%s\n", p.Refused[r], r)
	}
	if err := t.Flush(); err != nil {
		return &exit{code: exitIO, err: err}
	}
	for _, o := range p.Overrides {
		fmt.Fprintln(w, "  acknowledged:", o)
	}
	return closedOr(w, p, false)
}

func closedOr(w io.Writer, p *policy.Proof, quiet bool) error {
	if p.Closed() {
		if !quiet {
			fmt.Fprintf(w, "\nclosed: %s\n", p.Summary())
		}
		return nil
	}
	for _, c := range p.Counterexamples {
		fmt.Fprintln(w, c.Error())
	}
	return &exit{code: exitOpen}
}
