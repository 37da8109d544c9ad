package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/internal/config"
	"postern/internal/machine"
	"postern/internal/problem"
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
	f.StringVar(&d.Deliver, "deliver", "hold", "where its mailboxes are: lmtp:unix:/path, lmtp:host:port, smtp:host:port, maildir:/path/{local}, or hold")
	f.StringVar(&recipients, "recipients", "postmaster", "its mailboxes, where nobody can be asked; with commas")
	f.StringVar(&d.User, "user", "", "the first user")
	f.StringSliceVar(&as, "may-send-as", nil, "an `ADDRESS` that the user may send as (default: user@domain)")
	f.StringVar(&d.Smarthost, "smarthost", "", "`HOST:PORT` that takes our mail (default: each domain's MX)")
	f.StringVar(&d.Login, "smarthost-login", "", "`FILE` with the smarthost's user and password on two lines")
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

// An interview asks for a draft. An answer that will not do is told of at once,
// and asked for again.
type interview struct {
	in  *bufio.Reader
	out io.Writer
	d   *config.Draft
}

var errNoAnswer = usage("no answer; nothing was written")

// question asks until the answer is one that the relay would take; an empty
// answer takes what is in brackets.
func (q *interview) question(text, def string, set func(answer string)) error {
	for {
		bracket := ""
		if def != "" {
			bracket = " [" + def + "]"
		}
		fmt.Fprintf(q.out, "%s%s: ", text, bracket)
		line, err := q.in.ReadString('\n')
		if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
			return errNoAnswer
		}
		answer := cmp.Or(strings.TrimSpace(line), def)
		if answer == "" {
			continue
		}
		before := *q.d
		set(answer)
		wrong := q.d.Judge()
		if wrong == nil {
			return nil
		}
		*q.d = before
		for _, p := range problem.All(wrong) {
			fmt.Fprintf(q.out, "   %s\n", p.Error())
		}
		if errors.Is(err, io.EOF) {
			return errNoAnswer
		}
	}
}

// none is what stands for no answer.
func none(s string) string {
	if s == "none" {
		return ""
	}
	return s
}

// ask asks the six questions.
func ask(c *cobra.Command, d *config.Draft) error {
	q := &interview{bufio.NewReader(c.InOrStdin()), c.OutOrStdout(), d}
	for _, each := range []func() error{q.host, q.domain, q.user, q.smarthost, q.certificate} {
		if err := each(); err != nil {
			return err
		}
	}
	return nil
}

func (q *interview) host() error {
	def := q.d.Hostname
	if q.d.Hostname = ""; (&config.Draft{Hostname: def}).Judge() != nil {
		def = "" // a short name is nothing that a relay can call itself
	}
	return q.question("1. Full name of this host, as the DNS knows it, such as mx.example.org", def, func(s string) { q.d.Hostname = s })
}

func (q *interview) domain() error {
	d := q.d
	_, parent, _ := strings.Cut(d.Hostname, ".")
	if !strings.Contains(parent, ".") {
		parent = ""
	}
	def, deliver := cmp.Or(d.Domain, parent, "none"), cmp.Or(d.Deliver, "hold")
	d.Domain, d.Deliver = "", ""
	if err := q.question("2. Mail domain that it receives for, or none", def, func(s string) { d.Domain = none(s) }); err != nil {
		return err
	}
	if d.Deliver = deliver; d.Domain == "" {
		return nil
	}
	if err := q.question("3. Where its mailboxes are: lmtp:unix:/path, lmtp:host:port, smtp:host:port,\n   maildir:/var/mail/{domain}/{local}, or hold to keep mail in the queue", deliver, func(s string) { d.Deliver = s }); err != nil {
		return err
	}
	if !d.Listed() {
		return nil
	}
	return q.question("   Its mailboxes, with commas", cmp.Or(strings.Join(d.Recipients, ","), "postmaster"), func(s string) { d.Recipients = splitWords(s) })
}

func (q *interview) user() error {
	return q.question("4. First user who may log in, or none", cmp.Or(q.d.User, "none"), func(s string) { q.d.User = none(s); q.d.SendAs() })
}

func (q *interview) smarthost() error {
	d := q.d
	def := cmp.Or(d.Smarthost, "none")
	d.Smarthost = ""
	if err := q.question("5. Smarthost as host:port, or none to send to each domain's MX", def, func(s string) { d.Smarthost = none(s) }); err != nil || d.Smarthost == "" {
		return err
	}
	def = cmp.Or(d.Login, "none")
	d.Login = ""
	return q.question("   File with its user and password on two lines, or none", def, func(s string) { d.Login = none(s) })
}

func (q *interview) certificate() error {
	d := q.d
	certificate, key := cmp.Or(d.Certificate, "none"), d.Key
	d.Certificate, d.Key = "", ""
	if err := q.question("6. Certificate (PEM file), or none", certificate, func(s string) { d.Certificate = none(s) }); err != nil || d.Certificate == "" {
		return err
	}
	return q.question("   Its key (PEM file)", key, func(s string) { d.Key = s })
}

func writeDraft(c *cobra.Command, d *config.Draft, dir string) error {
	d.SendAs()
	if err := d.Check(); err != nil {
		return usage("%w", err)
	}
	if err := d.Judge(); err != nil { // there is no file yet that a place could be in
		return &exit{code: exitUsage, err: err, help: "nothing was written; correct the answer"}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	program, err := os.Executable()
	if err != nil {
		return &exit{code: exitIO, err: err}
	}
	d.Program = installed(program)
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
	printNext(c.OutOrStdout(), d, dir, program)
	return nil
}

// installed is where a service finds the program: where it is, unless that is
// a folder that a service does not see, or that is emptied one day.
func installed(program string) string {
	for _, folder := range []string{"/usr/", "/opt/", "/srv/"} {
		if strings.HasPrefix(program, folder) {
			return program
		}
	}
	return "/usr/local/bin/postern"
}

// printNext lists the commands between the files and a service that runs.
func printNext(w io.Writer, d *config.Draft, dir, program string) {
	step := 0
	say := func(format string, args ...any) {
		step++
		lead := "      "
		if step == 1 {
			lead = "next  "
		}
		fmt.Fprintf(w, lead+format+"\n", args...)
	}
	fmt.Fprintln(w)
	say("postern config check %s", d.Config)
	if d.User != "" {
		say("postern user add %s --config %s --generate", d.User, d.Config)
	}
	say("postern serve --config %s", d.Config)
	fmt.Fprintln(w, "\nas a service, which starts with the machine (docs/running.md), as root:")
	if program != d.Program {
		fmt.Fprintf(w, "      install -m 755 %s %s\n", program, d.Program)
	}
	if _, err := user.Lookup("postern"); err != nil {
		fmt.Fprintln(w, "      useradd --system --user-group --no-create-home \\\n        --shell /usr/sbin/nologin postern")
	}
	for _, folder := range d.Folders() {
		if _, err := os.Stat(folder); err == nil { // nobody else's folder is taken from them
			fmt.Fprintf(w, "      # the user postern must be able to write in %s\n", folder)
			continue
		}
		fmt.Fprintf(w, "      install -d -m 750 -o postern -g postern %s\n", folder)
	}
	if d.User != "" {
		fmt.Fprintf(w, "      postern user add %s --config %s --generate\n", d.User, d.Config)
	}
	fmt.Fprintf(w, "      install -m 644 %s /etc/systemd/system/\n", filepath.Join(dir, "postern.service"))
	fmt.Fprintln(w, "      systemctl enable --now postern")
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
