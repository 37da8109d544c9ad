package main

import (
	"bytes"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/internal/config"
	"postern/internal/problem"
	"postern/internal/state"
	"postern/policy"
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

func configCheck() *cobra.Command {
	var p place
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
			pol, err := p.policy(c)
			if err != nil {
				return p.inForce(c, err)
			}
			_, warnings := policy.Compile(pol.Source())
			for _, w := range problem.All(warnings) {
				fmt.Fprintln(c.ErrOrStderr(), w.Error())
			}
			proof := pol.Prove()
			if !proof.Closed() {
				for _, x := range proof.Counterexamples {
					fmt.Fprintln(c.ErrOrStderr(), x.Error())
				}
				return &exit{code: exitConfig, help: plural(len(proof.Counterexamples), "counterexample")}
			}
			settings, err := p.settings()
			if err == nil {
				_, err = serve.Ways(settings)
			}
			if err != nil {
				return badConfig(c.ErrOrStderr(), err)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: ok\nclosed: %s\n", file, proof.Summary())
			return nil
		},
	}
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

func configShow() *cobra.Command {
	var p place
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
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range list {
				if s.Value != "" {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Block, s.Word, s.Value, s.At)
				}
			}
			return t.Flush()
		},
	}
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
