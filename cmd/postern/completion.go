package main

import (
	"slices"

	"github.com/spf13/cobra"

	"postern/door"
	"postern/internal/identity"
	"postern/internal/queue"
	"postern/lab"
	"postern/plan"
	"postern/policy"
)

// completions are the words that a shell can complete, by the name of their flag.
var completions = map[string]func() []string{
	"door": func() (list []string) {
		for _, d := range door.All() {
			list = append(list, d.String())
		}
		return list
	},
	"form": func() (list []string) {
		for _, f := range plan.All() {
			list = append(list, f.ID)
		}
		return list
	},
	"only": func() (list []string) {
		for _, s := range lab.Specimens() {
			list = append(list, s.Name)
		}
		return list
	},
	"is": func() (list []string) {
		for _, s := range queue.States() {
			list = append(list, s.String())
		}
		return list
	},
	"grant": func() (list []string) {
		for _, r := range policy.Reasons() {
			list = append(list, r.String())
		}
		return list
	},
}

// completes lets shells complete what the program knows, in a command and in
// all below it: words of flags, and users where one is named.
func completes(c *cobra.Command) {
	for _, sub := range c.Commands() {
		completes(sub)
	}
	for name, words := range completions {
		if c.Flags().Lookup(name) != nil {
			complain(c.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return words(), cobra.ShellCompDirectiveNoFileComp
			}))
		}
	}
	takesUser := c.HasParent() && c.Parent().Name() == "user" && slices.Contains([]string{"passwd", "disable", "enable", "remove", "senders", "token"}, c.Name())
	if takesUser && c.ValidArgsFunction == nil {
		c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return users(c), cobra.ShellCompDirectiveNoFileComp
		}
	}
}

// users are those of the state folder that the command names.
func users(c *cobra.Command) (list []string) {
	p := place{config: c.Flag("config").Value.String(), state: c.Flag("state").Value.String()}
	path, err := p.folder()
	if err != nil || !readable(path) {
		return nil
	}
	_ = asOwner(path, func() error { // whoever may not look gets no words
		store, err := identity.Open(path)
		if err != nil {
			return err
		}
		for _, u := range store.List() {
			list = append(list, u.Name)
		}
		return nil
	})
	return list
}
