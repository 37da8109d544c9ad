package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/internal/config"
	"postern/internal/machine"
)

func initCommand() *cobra.Command {
	var d config.Draft
	var dir, recipients string
	var as []string
	var yes bool
	c := &cobra.Command{
		Use:   "init",
		Short: "write a first configuration, DNS records and a systemd unit",
		Long: `Init asks six questions on a terminal and writes postern.hcl, dns.txt and
postern.service into a folder. Each answer can be given as a flag; with --yes
nothing is asked. No file is ever overwritten, and nothing else is changed.`,
		Example: `  # with questions
  postern init

  # without
  postern init --yes --hostname mx.example.org --domain example.org \
    --deliver lmtp:unix:/run/dovecot/lmtp --user anna --dir /etc/postern`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d.MaySendAs = as
			d.Recipients = splitWords(recipients)
			if !yes {
				if !term.IsTerminal(int(os.Stdin.Fd())) {
					return usage("standard input is no terminal; say --yes and give the answers as flags")
				}
				if err := ask(c, &d); err != nil {
					return err
				}
			}
			return writeDraft(c, &d, dir)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&d.Hostname, "hostname", first(os.Hostname()), "the full `NAME` of this host")
	f.StringVar(&d.Domain, "domain", "", "the mail domain that is received for (default: none, it only sends)")
	f.StringVar(&d.Deliver, "deliver", "hold", "where its mailboxes are: lmtp:unix:/path, lmtp:host:port, smtp:host:port, hold")
	f.StringVar(&recipients, "recipients", "postmaster", "its mailboxes, where nobody can be asked; with commas")
	f.StringVar(&d.User, "user", "", "the first user")
	f.StringSliceVar(&as, "may-send-as", nil, "an `ADDRESS` that the user may send as (default: user@domain)")
	f.StringVar(&d.Smarthost, "smarthost", "", "`HOST:PORT` that takes our mail (default: each domain's MX)")
	f.StringVar(&d.Certificate, "certificate", "", "PEM `FILE` (default: one is made that nobody vouches for)")
	f.StringVar(&d.Key, "key", "", "PEM `FILE` of its key")
	f.StringVar(&d.State, "state", "/var/lib/postern", "`FOLDER` of the state")
	f.StringVar(&dir, "dir", ".", "`FOLDER` to write to")
	f.BoolVar(&yes, "yes", false, "ask nothing")
	return c
}

func splitWords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// ask asks the six questions; an empty answer takes what is in brackets.
func ask(c *cobra.Command, d *config.Draft) error {
	in := bufio.NewReader(c.InOrStdin())
	var failed error
	question := func(text, def string) string {
		fmt.Fprintf(c.OutOrStdout(), "%s [%s]: ", text, def)
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) || err != nil && line == "" {
			failed = errors.Join(failed, usage("no answer; nothing was written"))
		}
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
		return def
	}
	none := func(s string) string {
		if s == "none" {
			return ""
		}
		return s
	}
	d.Hostname = question("1. Full name of this host, as the DNS knows it", d.Hostname)
	_, parent, _ := strings.Cut(d.Hostname, ".")
	d.Domain = none(question("2. Mail domain that it receives for, or none", orNone(d.Domain, orNone(parent, "none"))))
	if d.Domain != "" {
		d.Deliver = question("3. Where its mailboxes are: lmtp:unix:/path, smtp:host:port or hold", d.Deliver)
		if d.Listed() {
			d.Recipients = splitWords(question("   Its mailboxes", strings.Join(d.Recipients, ",")))
		}
	}
	d.User = none(question("4. First user who may log in, or none", orNone(d.User, "anna")))
	d.Smarthost = none(question("5. Smarthost as host:port, or none to send to each domain's MX", orNone(d.Smarthost, "none")))
	if d.Certificate = none(question("6. Certificate (PEM file), or none", orNone(d.Certificate, "none"))); d.Certificate != "" {
		d.Key = question("   Its key (PEM file)", d.Key)
	}
	return failed
}

func writeDraft(c *cobra.Command, d *config.Draft, dir string) error {
	if len(d.MaySendAs) == 0 && d.User != "" {
		domain := d.Domain
		if domain == "" {
			_, domain, _ = strings.Cut(d.Hostname, ".")
		}
		d.MaySendAs = []string{d.User + "@" + domain}
	}
	if err := d.Check(); err != nil {
		return usage("%w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	if d.Program, err = os.Executable(); err != nil {
		return &exit{code: exitIO, err: err}
	}
	d.Config, d.Addresses = filepath.Join(dir, "postern.hcl"), publicAddresses()
	files, err := d.Files()
	if err != nil {
		return &exit{code: exitSoftware, err: err}
	}
	if _, err := config.Read(d.Config, files["postern.hcl"]); err != nil {
		return badConfig(c.ErrOrStderr(), err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // what stands there is no secret
		return &exit{code: exitIO, err: err}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeNew(filepath.Join(dir, name), files[name]); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", filepath.Join(dir, name))
	}
	fmt.Fprintf(c.OutOrStdout(), "\nnext  postern config check %s\n", d.Config)
	if d.User != "" {
		fmt.Fprintf(c.OutOrStdout(), "      postern user add %s --config %s --generate\n", d.User, d.Config)
	}
	fmt.Fprintf(c.OutOrStdout(), "      postern serve --config %s\n", d.Config)
	return nil
}

// writeNew never replaces a file.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // no secret is in it
	if errors.Is(err, os.ErrExist) {
		return &exit{code: exitUsage, err: fmt.Errorf("%s exists and is left as it is", name), help: "name another folder with --dir, or move it away"}
	}
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	return nil
}

// publicAddresses are those of this machine that others may reach.
func publicAddresses() []netip.Addr {
	facts, err := machine.Here()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, a := range facts.Roads() {
		if a.IsGlobalUnicast() && !a.IsPrivate() && !slices.Contains(list, a) && !slices.Contains(facts.Gateways, a) {
			list = append(list, a)
		}
	}
	return list
}
