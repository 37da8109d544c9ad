package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/internal/config"
	"postern/internal/problem"
	"postern/internal/state"
	"postern/serve"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "check, show and format the configuration"}
	c.AddCommand(configCheck(), configShow(), configFormat())
	return c
}

// named returns the file of the argument, of the flag, or the default one.
func (p *place) named(args []string) (string, error) {
	if len(args) > 0 {
		p.config = args[0]
	}
	if file := p.file(); file != "" {
		return file, nil
	}
	return "", usage("no configuration; name a FILE, or let postern init write one")
}

// A checkFact is what config check found, as JSON has it.
type checkFact struct {
	File     string        `json:"file"`
	Taken    bool          `json:"taken"`  // the relay would take it
	Closed   bool          `json:"closed"` // it was proved that no stranger is relayed
	Proof    string        `json:"proof,omitempty"`
	Problems []problemFact `json:"problems"`
}

// stops returns how many problems keep the relay from taking the file.
func (f *checkFact) stops() (n int) {
	for _, p := range f.Problems {
		if !p.Warning {
			n++
		}
	}
	return n
}

// check reads, compiles and proves a configuration.
func (p *place) check(file string) *checkFact {
	fact := &checkFact{File: file}
	add := func(err error) { fact.Problems = append(fact.Problems, problemFacts(problem.All(err))...) }
	fact.Problems = []problemFact{}
	pol, err := p.compile()
	add(err)
	if fact.stops() > 0 {
		return fact
	}
	proof := pol.Prove()
	for _, x := range proof.Counterexamples {
		add(x.Problem())
	}
	if fact.Closed, fact.Proof = proof.Closed(), proof.Summary(); !fact.Closed {
		return fact
	}
	settings, err := p.settings()
	if err == nil {
		_, ways := serve.Ways(settings)
		err = errors.Join(ways, settings.Exposed())
	}
	add(err)
	fact.Taken = fact.stops() == 0
	return fact
}

func configCheck() *cobra.Command {
	var p place
	var asJSON bool
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "tell every problem of a configuration, and prove it closed",
		Long: `Check reads a configuration as the relay would, tells all of its problems with
their places, and proves over every class of input that it relays for no
stranger. Nothing is put in force.

Exit code: 0 it would be taken, 78 it would be refused.`,
		Example: `  postern config check postern.hcl`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := p.named(args)
			if err != nil {
				return err
			}
			fact := p.check(file)
			refused := &exit{code: exitConfig, help: plural(fact.stops(), "problem")}
			switch {
			case asJSON:
				err, refused.help = printJSON(c.OutOrStdout(), fact), ""
			default:
				for i := range fact.Problems {
					fmt.Fprintln(c.ErrOrStderr(), fact.Problems[i].String())
				}
				if fact.Taken {
					fmt.Fprintf(c.OutOrStdout(), "%s: ok\nclosed: %s\n", file, fact.Proof)
				} else {
					return p.inForce(c, refused)
				}
			}
			if err != nil || fact.Taken {
				return err
			}
			return refused
		},
	}
	jsonFlag(c, &asJSON)
	p.add(c)
	return c
}

// inForce adds to a refusal what goes on running meanwhile.
func (p *place) inForce(c *cobra.Command, err error) error {
	e, ok := err.(*exit) //nolint:errorlint // it was made by badConfig, just now
	path, pathErr := state.Default()
	if p.state != "" {
		path, pathErr = p.state, nil
	}
	if !ok || pathErr != nil {
		return err
	}
	var s serve.Status
	if asOwner(path, func() error { return serve.Dial(path).Get(c.Context(), "/status", &s) }) == nil {
		e.help += fmt.Sprintf("; the running policy %s stays in force", s.Policy)
	}
	return e
}

// A settingFact is a word in force as JSON has it.
type settingFact struct {
	Block string `json:"block"`
	Word  string `json:"word"`
	Value string `json:"value"`
	At    string `json:"at"` // file:line, or "default"
}

func configShow() *cobra.Command {
	var p place
	var asJSON bool
	c := &cobra.Command{
		Use:     "show [FILE]",
		Short:   "print what is in force, and where each value comes from",
		Example: `  postern config show postern.hcl`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := p.named(args)
			if err != nil {
				return err
			}
			list, err := config.Show(file)
			if err != nil {
				return badConfig(c.ErrOrStderr(), err)
			}
			if asJSON {
				facts := []settingFact{}
				for _, s := range list {
					facts = append(facts, settingFact(s))
				}
				return printJSON(c.OutOrStdout(), facts)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range list {
				if s.Value != "" {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Block, s.Word, s.Value, s.At)
				}
			}
			return t.Flush()
		},
	}
	jsonFlag(c, &asJSON)
	p.add(c)
	return c
}

func configFormat() *cobra.Command {
	var write bool
	c := &cobra.Command{
		Use:     "fmt FILE",
		Short:   "print a configuration in its one form; comments stay",
		Example: "  postern config fmt postern.hcl\n\n  postern config fmt -w postern.hcl",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return &exit{code: exitIO, err: err}
			}
			if _, err := config.Read(args[0], text); err != nil {
				return badConfig(c.ErrOrStderr(), err)
			}
			formatted := config.Format(text)
			switch {
			case !write:
				_, err = c.OutOrStdout().Write(formatted)
			case !bytes.Equal(text, formatted):
				err = state.WriteFile(args[0], formatted)
			}
			if err != nil {
				return &exit{code: exitIO, err: err}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "write it back to FILE")
	return c
}
