package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/identity"
	"postern/internal/problem"
	"postern/serve"
)

// A listedUser is a user with what is in force of it: the configuration's word
// on what it may send as, where there is one.
type listedUser struct {
	identity.User
	At      string      `json:"at,omitempty"` // the line of the configuration
	Missing bool        `json:"no_login,omitempty"`
	where   problem.Pos // the same
}

func userList() *cobra.Command {
	var p place
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "print all users", Args: cobra.NoArgs,
		Long: `List prints users and their tokens, what they may send as and the line of the
configuration that says so, when they were last used, and what is special: who
is disabled, a token's rate, its end, and whether it opens gateways.`,
		Example: `  postern user list`,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := p.folder()
			if err != nil {
				return err
			}
			// A relay that runs writes last uses once a minute.
			flush := func() error { return serve.Dial(path).Post(c.Context(), "/users/flush", &struct{}{}) }
			if err := asOwner(path, flush); err != nil && !errors.Is(err, serve.ErrNotRunning) {
				return controlError(c, err)
			}
			store, err := p.users(c)
			if err != nil {
				return err
			}
			list := store.listed()
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list)
			}
			return printUsers(c.OutOrStdout(), list, time.Now())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
}

// listed returns all users, those too of whom only the configuration knows.
func (all *people) listed() []listedUser {
	list := []listedUser{} // in JSON no null
	for _, u := range all.List() {
		l := listedUser{User: u}
		l.MaySendAs, l.where = all.sends(u.Name)
		l.MaySendAs = append([]string{}, l.MaySendAs...)
		l.Tokens = slices.Clone(l.Tokens)
		for i, t := range l.Tokens {
			l.Tokens[i].MaySendAs = append([]string{}, identity.Held(l.MaySendAs, t.MaySendAs)...)
		}
		list = append(list, l)
	}
	for _, u := range all.written {
		if !all.has(u.Name) {
			list = append(list, listedUser{User: identity.User{Name: u.Name, MaySendAs: serve.Words(u.MaySendAs)}, where: u.At, Missing: true})
		}
	}
	for i := range list {
		if !list[i].where.IsZero() {
			list[i].At = list[i].where.String()
		}
	}
	return list
}

func printUsers(w io.Writer, list []listedUser, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "USER\tMAY SEND AS\tWRITTEN IN\tLAST USE\tNOTE")
	for _, u := range list {
		var notes []string
		if u.Missing {
			notes = append(notes, "cannot log in: postern user add "+u.Name)
		}
		if u.Disabled {
			notes = append(notes, "disabled")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", u.Name, orDash(u.MaySendAs), u.At, orNever(u.LastUse), strings.Join(notes, "; "))
		for _, k := range u.Tokens {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\t%s\n", u.Name, k.Name, orDash(k.MaySendAs), u.At, orNever(k.LastUse), tokenNotes(u, k, now))
		}
	}
	return t.Flush()
}

func tokenNotes(u listedUser, k identity.Token, now time.Time) string {
	var notes []string
	if k.Rate != "" {
		notes = append(notes, k.Rate)
	}
	if k.Gateway {
		notes = append(notes, "gateways too")
	}
	switch {
	case k.Expires.IsZero():
	case k.Expires.After(now):
		notes = append(notes, "until "+orNever(k.Expires))
	default:
		notes = append(notes, "expired "+orNever(k.Expires))
	}
	if u.Disabled {
		notes = append(notes, "disabled with its user")
	}
	return strings.Join(notes, "; ")
}

func orDash(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

func orNever(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}
