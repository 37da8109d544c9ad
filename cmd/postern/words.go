package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/internal/problem"
)

// strict makes the commands of a tree refuse words that they do not have: a
// mistyped word must not look like a success to a script.
func strict(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.SetFlagErrorFunc(flagError)
	for _, c := range root.Commands() {
		group(c)
	}
	completes(root)
}

// group makes a command that only has subcommands print its help without a
// word, and refuse one that is no subcommand.
func group(c *cobra.Command) {
	for _, sub := range c.Commands() {
		group(sub)
	}
	if !c.HasSubCommands() {
		return
	}
	// The flags of the word that was meant are not the mistake to tell of.
	c.FParseErrWhitelist = cobra.FParseErrWhitelist{UnknownFlags: true}
	c.Args = cobra.ArbitraryArgs
	c.Use, c.DisableFlagsInUseLine = c.Name()+" COMMAND", true
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return unknownCommand(c, args[0])
	}
}

func unknownCommand(c *cobra.Command, word string) error {
	return &exit{
		code: exitUsage, err: fmt.Errorf("%q is no command of %s; %s", word, c.CommandPath(), problem.Meant(word, commandNames(c))),
		help: "see " + c.CommandPath() + " --help",
	}
}

func commandNames(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			names = append(names, sub.Name())
		}
	}
	return names
}

// helpCommand is cobra's, which says no more than it knows and ends with 0.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "print the help of a command",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || found == nil || len(rest) > 0 {
				at := c.Root()
				if found != nil {
					at = found
				}
				return unknownCommand(at, firstOf(rest, args))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

func firstOf(lists ...[]string) string {
	for _, list := range lists {
		if len(list) > 0 {
			return list[0]
		}
	}
	return ""
}

// flagError says what is wrong with a flag in words of its own: which is meant,
// and what it takes.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && len(unknown.GetSpecifiedShortnames()) == 0:
		name := unknown.GetSpecifiedName()
		err = fmt.Errorf("unknown flag: --%s", name)
		if meant := problem.Meant(name, flagNames(c)); !strings.HasPrefix(meant, "there are") {
			near := problem.Nearest(name, flagNames(c))
			err = fmt.Errorf("unknown flag: --%s; did you mean --%s?", name, near)
		}
	case errors.As(err, &bad):
		if takes := valueOf[bad.GetFlag().Value.Type()]; takes != "" {
			err = fmt.Errorf("--%s: %q is not what it takes; write %s", bad.GetFlag().Name, bad.GetValue(), takes)
		}
	}
	return &exit{code: exitUsage, err: err, help: "see " + c.CommandPath() + " --help"}
}

func flagNames(c *cobra.Command) []string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// valueOf says what a flag of a type takes, for a person.
var valueOf = map[string]string{
	"int": "a whole number", "int64": "a whole number", "uint16": "a number from 0 to 65535",
	"duration": "a time such as 30s, 5m or 2h", "bool": "true or false, or nothing",
	"float64": "a number",
}

// configVariable names the configuration where no --config does.
const configVariable = "POSTERN_CONFIG"

// namedByEnvironment returns the configuration that the environment names, or "".
func namedByEnvironment() string { return strings.TrimSpace(os.Getenv(configVariable)) }
