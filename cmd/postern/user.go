package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/guard"
	"postern/internal/identity"
	"postern/internal/plaintext"
	"postern/policy"
)

func userCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "user",
		Short: "who may log in, and what they may send as",
		Long: `Users are kept in the state folder; a running relay takes changes over within
seconds. Passwords are asked for on a terminal, or read with --password-stdin;
they are never arguments.`,
	}
	c.AddCommand(userAdd(), userPasswd(), userSwitch("disable", "keep a user and its tokens from logging in and sending", (*identity.Store).Disable),
		userSwitch("enable", "undo disable", (*identity.Store).Enable), userSwitch("remove", "remove a user and its tokens", (*identity.Store).Remove),
		userSenders(), userList(), userImport(), userToken())
	return c
}

// users opens the store of the state folder.
func (p *place) users() (*identity.Store, error) {
	path, err := p.folder()
	if err != nil {
		return nil, err
	}
	if err := p.founded(path); err != nil {
		return nil, &exit{code: exitIO, err: err}
	}
	if _, err := become(path); err != nil {
		return nil, err
	}
	store, err := identity.Open(path)
	if err != nil {
		return nil, &exit{code: exitIO, err: err}
	}
	return store, nil
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
		password := identity.Generate()
		fmt.Fprintf(c.OutOrStdout(), "password  %s   (shown once)\n", string(password))
		return password, nil
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
			store, err := p.users()
			if err != nil {
				return err
			}
			password, err := s.read(c)
			if err != nil {
				return err
			}
			if err := store.Add(identity.NewUser{Name: args[0], Password: password, MaySendAs: as, Certificate: certificate}); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user %s added; may send as %s\n", args[0], orNobody(as))
			return nil
		},
	}
	c.Flags().StringSliceVar(&as, "may-send-as", nil, "an `ADDRESS`, *@domain, * or <>; may be repeated")
	c.Flags().BoolVar(&certificate, "certificate", false, "a client certificate that names the user is enough")
	s.add(c)
	p.add(c)
	return c
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
			store, err := p.users()
			if err != nil {
				return err
			}
			password, err := s.read(c)
			if err != nil {
				return err
			}
			if err := store.SetPassword(args[0], password); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user %s has a new password; the old one is refused from now on\n", args[0])
			return nil
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
			store, err := p.users()
			if err != nil {
				return err
			}
			if err := do(store, args[0]); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user %s: %sd\n", args[0], verb)
			return nil
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
			store, err := p.users()
			if err != nil {
				return err
			}
			if err := store.SetSenders(args[0], args[1:]); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user %s may send as %s\n", args[0], orNobody(args[1:]))
			return nil
		},
	}
	p.add(c)
	return c
}

func userList() *cobra.Command {
	var p place
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "print all users", Args: cobra.NoArgs,
		Example: `  postern user list`,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := p.users()
			if err != nil {
				return err
			}
			list := store.List()
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(list)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "USER\tMAY SEND AS\tLAST USE\t")
			for _, u := range list {
				state := ""
				if u.Disabled {
					state = "disabled"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", u.Name, orDash(u.MaySendAs), orNever(u.LastUse), state)
				for _, k := range u.Tokens {
					fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\n", u.Name, k.Name, orDash(k.MaySendAs), orNever(k.LastUse), k.Rate)
				}
			}
			return t.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	p.add(c)
	return c
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
			store, err := p.users()
			if err != nil {
				return err
			}
			n, err := store.Import(name, in)
			fmt.Fprintf(c.OutOrStdout(), "%s imported\n", plural(n, "user"))
			if err != nil {
				return &exit{code: exitUsage, err: err}
			}
			return nil
		},
	}
	p.add(c)
	return c
}

func userToken() *cobra.Command {
	var p place
	var as []string
	var rate string
	var life time.Duration
	var remove bool
	c := &cobra.Command{
		Use:   "token USER NAME",
		Short: "make a password for one application, or remove it",
		Long: `A token logs in as USER/NAME and may send as no more than its user may. Its
secret is shown once.`,
		Example: `  # a shop that may send from one address, a hundred messages an hour
  postern user token anna shop --may-send-as shop@example.org --rate 100/h

  # it is no longer used
  postern user token anna shop --remove`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			store, err := p.users()
			if err != nil {
				return err
			}
			if remove {
				if err := store.RemoveToken(args[0], args[1]); err != nil {
					return &exit{code: exitUsage, err: err}
				}
				fmt.Fprintf(c.OutOrStdout(), "token %s/%s removed\n", args[0], args[1])
				return nil
			}
			if err := checkSenders(as); err != nil {
				return err
			}
			if _, err := guard.ParseRate(rate); rate != "" && err != nil {
				return usage("--rate: %w", err)
			}
			k := identity.NewToken{Name: args[1], MaySendAs: as, Rate: rate}
			if life > 0 {
				k.Expires = time.Now().Add(life)
			}
			secret, err := store.AddToken(args[0], k)
			if err != nil {
				return &exit{code: exitUsage, err: err}
			}
			fmt.Fprintf(c.OutOrStdout(), "user      %s/%s\npassword  %s   (shown once)\n", args[0], args[1], string(secret))
			return nil
		},
	}
	c.Flags().StringSliceVar(&as, "may-send-as", nil, "an `ADDRESS` of the user's; may be repeated")
	c.Flags().StringVar(&rate, "rate", "", "messages a time, as 100/h (default: the user's)")
	c.Flags().DurationVar(&life, "expires", 0, "after this `TIME` it is refused (default: never)")
	c.Flags().BoolVar(&remove, "remove", false, "remove the token")
	p.add(c)
	return c
}
