package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/internal/identity"
	"postern/internal/plaintext"
	"postern/internal/problem"
	"postern/policy"
	"postern/serve"
)

func userCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "user",
		Short: "who may log in, and what they may send as",
		Long: `Users are kept in the state folder; what they may send as stands there or in
the configuration, which goes before. A running relay is told of each change,
and the command comes back when it is in force. Passwords are asked for on a
terminal, or read with --password-stdin; they are never arguments.`,
	}
	c.AddCommand(userAdd(), userPasswd(), userSwitch("disable", "keep a user and its tokens from logging in and sending", (*identity.Store).Disable),
		userSwitch("enable", "undo disable, and forget failed logins", (*identity.Store).Enable), userSwitch("remove", "remove a user and its tokens", (*identity.Store).Remove),
		userSenders(), userList(), userImport(), userToken(), userLocked(), userUnlock())
	return c
}

// people are the users of a state folder, with what the configuration says of
// users.
type people struct {
	*identity.Store
	folder  string
	written []policy.User
}

// users opens the store of the state folder.
func (p *place) users(c *cobra.Command) (*people, error) {
	path, err := p.folder()
	if err != nil {
		return nil, err
	}
	all := &people{folder: path}
	var methods []string
	if p.file() != "" {
		settings, err := p.settings()
		if err != nil { // what is wrong there is no matter of these users'
			fmt.Fprintln(c.ErrOrStderr(), "the configuration has mistakes (postern config check); what it says of users counts as far as it could be read")
		}
		all.written, methods = settings.Policy.Users, settings.Methods
	}
	if err := p.founded(path); err != nil {
		return nil, &exit{code: exitIO, err: err}
	}
	if _, err := become(path); err != nil {
		return nil, err
	}
	if all.Store, err = identity.Open(path); err != nil {
		return nil, &exit{code: exitIO, err: err}
	}
	all.Methods(methods)
	return all, nil
}

// sends returns what a user may send as, and the line that says so; the zero
// place is the store.
func (all *people) sends(name string) ([]string, problem.Pos) {
	for _, u := range all.written {
		if strings.EqualFold(u.Name, name) {
			return serve.Words(u.MaySendAs), u.At
		}
	}
	for _, u := range all.List() {
		if strings.EqualFold(u.Name, name) {
			return u.MaySendAs, problem.Pos{}
		}
	}
	return nil, problem.Pos{}
}

// has reports whether the store has a user of a name.
func (all *people) has(name string) bool {
	return slices.ContainsFunc(all.List(), func(u identity.User) bool { return strings.EqualFold(u.Name, name) })
}

// changed tells a relay that runs on the state folder, and waits until what was
// changed is in force there. Failed logins of those who are named are forgotten.
func (all *people) changed(c *cobra.Command, forgive ...string) error {
	switch err := serve.Dial(all.folder).UsersChanged(c.Context(), forgive...); {
	case errors.Is(err, serve.ErrNotRunning):
		return nil // it is in force at the next start
	case err != nil:
		return &exit{code: exitConfig, err: fmt.Errorf("it is written, and the running relay has not put it in force: %w", err), help: "what was in force before stays so until that is mended"}
	}
	fmt.Fprintln(c.OutOrStdout(), "in force")
	return nil
}

// secrets is how a password comes in.
type secrets struct{ stdin, generate bool }

func (s *secrets) add(c *cobra.Command) {
	c.Flags().BoolVar(&s.stdin, "password-stdin", false, "read the password from the first line of standard input")
	c.Flags().BoolVar(&s.generate, "generate", false, "make a password and print it once")
}

func (s *secrets) read(c *cobra.Command) (identity.Secret, error) {
	switch {
	case s.generate:
		return identity.Generate(), nil
	case s.stdin:
		line, err := bufio.NewReader(plaintext.Reader(io.LimitReader(c.InOrStdin(), 4096))).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", &exit{code: exitIO, err: err}
		}
		return identity.Secret(strings.TrimRight(line, "\r\n")), nil
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return "", usage("no password: say --generate, or --password-stdin and write it to standard input")
	}
	fmt.Fprint(c.ErrOrStderr(), "password: ")
	one, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprint(c.ErrOrStderr(), "\nonce more: ")
	two, err2 := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(c.ErrOrStderr())
	if err := errors.Join(err, err2); err != nil {
		return "", &exit{code: exitIO, err: err}
	}
	if string(one) != string(two) {
		return "", usage("the two passwords differ; nothing was changed")
	}
	return identity.Secret(one), nil
}

// show prints a password that was made, once it is somebody's.
func (s *secrets) show(w io.Writer, password identity.Secret) {
	if s.generate {
		fmt.Fprintf(w, "password  %s   (shown once)\n", string(password))
	}
}

// checkSenders refuses what the policy could not read.
func checkSenders(words []string) error {
	for _, w := range words {
		if _, err := policy.ParseSenders(w); err != nil {
			return usage(`--may-send-as %q: %w; write name@domain, *@domain, * or <>`, w, err)
		}
	}
	return nil
}

func userAdd() *cobra.Command {
	var p place
	var s secrets
	var as []string
	var certificate bool
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "make a user",
		Example: `  # with a password that is made and shown once
  postern user add anna --may-send-as anna@example.org --generate`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkSenders(as); err != nil {
				return err
			}
			store, err := p.users(c)
			if err != nil {
				return err
			}
			u := identity.NewUser{Name: args[0], MaySendAs: as, Certificate: certificate}
			if err := store.Free(u.Name); err != nil { // before a password is asked for
				return &exit{code: exitUsage, err: err}
			}
			if !certificate || s.stdin || s.generate {
				if u.Password, err = s.read(c); err != nil {
					return err
				}
			}
			if err := store.Add(u); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			list, at := store.sends(u.Name)
			fmt.Fprintf(c.OutOrStdout(), "user %s added; may send as %s%s\n", u.Name, orNobody(list), written(at))
			if !at.IsZero() && len(as) > 0 {
				fmt.Fprintln(c.ErrOrStderr(), "the configuration says what this user may send as, so --may-send-as has no effect until that line goes")
			}
			s.show(c.OutOrStdout(), u.Password)
			return store.changed(c)
		},
	}
	c.Flags().StringSliceVar(&as, "may-send-as", nil, "an `ADDRESS`, *@domain, * or <>; may be repeated")
	c.Flags().BoolVar(&certificate, "certificate", false, "a client certificate that names the user is enough")
	s.add(c)
	p.add(c)
	return c
}

// written names the line that says something; nothing for the store.
func written(at problem.Pos) string {
	if at.IsZero() {
		return ""
	}
	return "  " + at.String()
}

func orNobody(list []string) string {
	if len(list) == 0 {
		return "nobody (postern user senders, or a user block in the configuration)"
	}
	return strings.Join(list, ", ")
}

func userPasswd() *cobra.Command {
	var p place
	var s secrets
	c := &cobra.Command{
		Use: "passwd NAME", Short: "give a user a new password", Args: cobra.ExactArgs(1),
		Example: `  postern user passwd anna --generate`,
		RunE: func(c *cobra.Command, args []string) error {
			store, err := p.users(c)
			if err != nil {
				return err
			}
			if err := store.Known(args[0]); err != nil { // before a password is asked for
				return &exit{code: exitUsage, err: err}
			}
			password, err := s.read(c)
			if err != nil {
				return err
			}
			if err := store.SetPassword(args[0], password); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user %s has a new password; the old one is refused from now on\n", args[0])
			s.show(c.OutOrStdout(), password)
			return store.changed(c, args[0])
		},
	}
	s.add(c)
	p.add(c)
	return c
}

func userSwitch(verb, short string, do func(*identity.Store, string) error) *cobra.Command {
	var p place
	c := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		Example: "  postern user " + verb + " anna",
		RunE: func(c *cobra.Command, args []string) error {
			store, err := p.users(c)
			if err != nil {
				return err
			}
			if err := do(store.Store, args[0]); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user %s: %sd\n", args[0], verb)
			return store.changed(c, args[0])
		},
	}
	p.add(c)
	return c
}

func userSenders() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use: "senders NAME ADDRESS...", Short: "replace what a user may send as", Args: cobra.MinimumNArgs(1),
		Example: `  postern user senders anna anna@example.org sales@example.org`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkSenders(args[1:]); err != nil {
				return err
			}
			store, err := p.users(c)
			if err != nil {
				return err
			}
			if err := store.SetSenders(args[0], args[1:]); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			list, at := store.sends(args[0])
			fmt.Fprintf(c.OutOrStdout(), "user %s may send as %s%s\n", args[0], orNobody(list), written(at))
			if !at.IsZero() {
				fmt.Fprintln(c.ErrOrStderr(), "the configuration says what this user may send as, so what was given here has no effect until that line goes")
			}
			return store.changed(c)
		},
	}
	p.add(c)
	return c
}

func userImport() *cobra.Command {
	var p place
	c := &cobra.Command{
		Use:   "import FILE",
		Short: "take over users of another mail server",
		Long: `Import reads lines as Dovecot's passwd-file has them: name:{SCHEME}hash. The
schemes ARGON2ID, BLF-CRYPT and SHA512-CRYPT are taken over; nobody needs a new
password. - reads standard input.`,
		Example: `  postern user import /etc/dovecot/users`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in, name := c.InOrStdin(), "standard input"
			if args[0] != "-" {
				f, err := os.Open(args[0]) // as root still, if we are
				if err != nil {
					return &exit{code: exitIO, err: err}
				}
				defer f.Close()
				in, name = f, args[0]
			}
			store, err := p.users(c)
			if err != nil {
				return err
			}
			n, err := store.Import(name, in)
			fmt.Fprintf(c.OutOrStdout(), "%s imported\n", plural(n, "user"))
			if err != nil {
				return &exit{code: exitUsage, err: err}
			}
			return store.changed(c)
		},
	}
	p.add(c)
	return c
}
