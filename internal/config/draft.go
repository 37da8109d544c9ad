package config

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
)

// A Draft is what postern init asks, and writes files from.
type Draft struct {
	Hostname    string
	Domain      string   // "" for a relay that only sends
	Deliver     string   // as the word deliver
	Recipients  []string // where nobody can be asked
	User        string
	MaySendAs   []string
	Smarthost   string // "" sends to the MX of each domain
	Login       string // a file with the smarthost's user and password; "": it wants none
	Certificate string // "" makes one that nobody vouches for
	Key         string
	State       string
	Program     string       // the path of postern, for the unit
	Config      string       // the path of the configuration, for the unit
	Addresses   []netip.Addr // of this machine, for the DNS records
}

//go:embed draft/postern.hcl.tmpl
var draftConfig string

//go:embed draft/dns.txt.tmpl
var draftDNS string

//go:embed draft/postern.service.tmpl
var draftUnit string

// Judge says why the relay would refuse the answers that are there, and what
// would do; those that are not there yet are not missed. Problems have no
// place: the file is not written yet.
func (d *Draft) Judge() error {
	all := *d
	all.Hostname = cmp.Or(d.Hostname, "mx.example.org")
	all.State, all.Program, all.Config = cmp.Or(d.State, "/var/lib/postern"), cmp.Or(d.Program, "/usr/bin/postern"), cmp.Or(d.Config, "/etc/postern/postern.hcl")
	if all.Certificate != "" && all.Key == "" {
		all.Certificate = ""
	}
	if all.Domain != "" && all.Deliver == "" {
		all.Deliver = "hold"
	}
	if all.Listed() && len(all.Recipients) == 0 {
		all.Recipients = []string{"postmaster"}
	}
	if err := all.Check(); err != nil {
		return err
	}
	files, err := all.Files()
	if err != nil {
		return err
	}
	_, err = Read(all.Config, files["postern.hcl"])
	fatal, _ := problem.Split(err)
	var errs []error
	for _, p := range problem.All(fatal) {
		errs = append(errs, &problem.Problem{What: p.What, Do: p.Do})
	}
	return errors.Join(errs...)
}

// SendAs gives the user an address where none was named: its name in the
// domain.
func (d *Draft) SendAs() {
	domain := d.Domain
	if domain == "" {
		_, domain, _ = strings.Cut(d.Hostname, ".")
	}
	switch {
	case d.User == "":
		d.MaySendAs = nil
	case len(d.MaySendAs) == 0:
		d.MaySendAs = []string{d.User + "@" + domain}
	}
}

// Folders are those outside of the state into which mail is delivered: what
// stands before the first part that each mailbox fills in.
func (d *Draft) Folders() []string {
	path, ok := strings.CutPrefix(d.Deliver, "maildir:")
	if !ok || d.Domain == "" {
		return nil
	}
	if i := strings.IndexByte(path, '{'); i >= 0 {
		path = path[:i]
		path = path[:strings.LastIndexByte(path, '/')+1]
	}
	return []string{filepath.Clean(path)}
}

// Homes reports whether mail is delivered into people's home folders.
func (d *Draft) Homes() bool {
	return slices.ContainsFunc(d.Folders(), func(path string) bool {
		return path == "/" || slices.ContainsFunc([]string{"/home", "/root", "/run/user"}, func(home string) bool { return path == home || strings.HasPrefix(path, home+"/") })
	})
}

// Check says which answer will not do, and what would.
func (d *Draft) Check() error {
	if h, err := mail.ParseDomain(d.Hostname); err != nil || h.IsLiteral() || !strings.Contains(h.ASCII(), ".") {
		return fmt.Errorf("hostname %q is no full name of a host; write it as mx.example.org", d.Hostname)
	}
	for _, answer := range append([]string{d.Hostname, d.Domain, d.Deliver, d.User, d.Smarthost, d.Login, d.Certificate, d.Key, d.State, d.Program, d.Config}, d.Recipients...) {
		if strings.ContainsFunc(answer, unicode.IsControl) {
			return fmt.Errorf("%q holds a control character; leave it out", answer)
		}
	}
	if d.Domain != "" {
		if _, err := mail.ParseDomain(d.Domain); err != nil {
			return fmt.Errorf("domain %q: %w", d.Domain, err)
		}
	}
	for _, w := range d.MaySendAs {
		if _, err := policy.ParseSenders(w); err != nil {
			return fmt.Errorf("%q: %w; write name@domain or *@domain", w, err)
		}
	}
	for _, path := range []string{d.State, d.Program, d.Config} {
		if strings.Contains(path, "$") {
			return fmt.Errorf("systemd reads a variable in the path %q; take one without a dollar sign", path)
		}
	}
	if (d.Certificate == "") != (d.Key == "") {
		return fmt.Errorf("a certificate needs its key, and a key its certificate")
	}
	return nil
}

// Listed reports whether the mailboxes must be listed: nobody can be asked.
func (d *Draft) Listed() bool {
	return !strings.HasPrefix(d.Deliver, "lmtp:") && !strings.HasPrefix(d.Deliver, "smtp:")
}

// Files returns the files of the draft by name.
func (d *Draft) Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, text := range map[string]string{"postern.hcl": draftConfig, "dns.txt": draftDNS, "postern.service": draftUnit} {
		t, err := template.New(name).Funcs(template.FuncMap{"quote": quote, "quotes": quotes, "ascii": ascii, "path": unitPath}).Parse(text)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, d); err != nil {
			return nil, err
		}
		files[name] = b.Bytes()
	}
	files["postern.hcl"] = Format(files["postern.hcl"])
	return files, nil
}

// quote writes a text as HCL has it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "$${", "%{", "%%{", "\n", `\n`).Replace(s) + `"`
}

// ascii writes a name as a zone file has it: in A-labels (RFC 5890).
func ascii(name string) (string, error) {
	d, err := mail.ParseDomain(name)
	return d.ASCII(), err
}

// unitPath writes a path as systemd.syntax(7) and systemd.unit(5) have it:
// quoted, and without the meaning of the percent sign.
func unitPath(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(s)
	if strings.ContainsAny(s, ` '"\;`) {
		return `"` + s + `"`
	}
	return s
}

func quotes(list []string) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = quote(s)
	}
	return "[" + strings.Join(words, ", ") + "]"
}
