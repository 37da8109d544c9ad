package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"postern/internal/config"
)

// interviewed answers init's questions, one answer a line, and returns the
// draft and what was printed.
func interviewed(d *config.Draft, answers ...string) (string, error) {
	var out bytes.Buffer
	c := &cobra.Command{}
	c.SetIn(strings.NewReader(strings.Join(answers, "\n") + "\n"))
	c.SetOut(&out)
	err := ask(c, d)
	return out.String(), err
}

func TestInitJudgesEachAnswer(t *testing.T) {
	login := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(login, []byte("me\nquiet-otter-banjo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		host    string // of this machine
		answers []string
		says    []string // in this order
		want    config.Draft
	}{
		{
			"all defaults", "mx.example.org",
			[]string{"", "", "", "", "", "", ""},
			[]string{"[mx.example.org]", "none [example.org]", "maildir:/var/mail/{domain}/{local}", "[hold]", "[postmaster]", "or none [none]"},
			config.Draft{Hostname: "mx.example.org", Domain: "example.org", Deliver: "hold", Recipients: []string{"postmaster"}},
		},
		{
			"a machine whose name is short", "vm",
			[]string{"", "vm", "mx.example.org", "none", "anna", "none", "none"},
			[]string{"such as mx.example.org: 1. Full", `hostname "vm" is no full name of a host; write it as mx.example.org`, "2. Mail domain"},
			config.Draft{Hostname: "mx.example.org", Deliver: "hold", User: "anna", MaySendAs: []string{"anna@example.org"}},
		},
		{
			"each answer wrong at first", "mx.example.org",
			[]string{
				"", "acme", "acme.example", "lmtp:nowhere", "maildir:var/mail", "maildir:/var/mail/{domain}/{local}", "Sales@other.example", "anna,ben", "none",
				"relay.isp.example", "relay.isp.example:587", "/nowhere/login", login, "none",
			},
			[]string{`domain "acme" is a top-level name`, "2. Mail domain", "3. Where", "3. Where", "3. Where", "is not of acme.example", "Its mailboxes", "no host and port", "5. Smarthost", "no such file", "6. Certificate"},
			config.Draft{
				Hostname: "mx.example.org", Domain: "acme.example", Deliver: "maildir:/var/mail/{domain}/{local}", Recipients: []string{"anna", "ben"},
				Smarthost: "relay.isp.example:587", Login: login,
			},
		},
		{
			"a certificate that is not there", "mx.example.org",
			[]string{"", "none", "none", "none", "/nowhere/cert.pem", "/nowhere/key.pem"},
			[]string{"6. Certificate", "Its key", "/nowhere"},
			config.Draft{},
		},
	} {
		d := &config.Draft{Hostname: c.host}
		out, err := interviewed(d, c.answers...)
		rest := out
		for _, words := range c.says {
			_, after, found := strings.Cut(rest, words)
			if !found {
				t.Errorf("%s: no %q in its place in:\n%s", c.name, words, out)
				break
			}
			rest = after
		}
		if c.want.Hostname == "" {
			if err == nil {
				t.Errorf("%s: taken", c.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, out)
			continue
		}
		got := config.Draft{
			Hostname: d.Hostname, Domain: d.Domain, Deliver: d.Deliver, User: d.User, Smarthost: d.Smarthost, Login: d.Login,
			Recipients: d.Recipients, MaySendAs: d.MaySendAs,
		}
		if a, b := strings.Join(got.Recipients, ","), strings.Join(c.want.Recipients, ","); a != b || strings.Join(got.MaySendAs, ",") != strings.Join(c.want.MaySendAs, ",") {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		got.Recipients, got.MaySendAs, c.want.Recipients, c.want.MaySendAs = nil, nil, nil, nil
		if a, b := got, c.want; a.Hostname != b.Hostname || a.Domain != b.Domain || a.Deliver != b.Deliver || a.User != b.User || a.Smarthost != b.Smarthost || a.Login != b.Login {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// A unit that init writes can execute the program and write what it must.
func TestTheUnitOfInitStarts(t *testing.T) {
	for _, c := range []struct {
		program, deliver, exec string
		paths, home            string
	}{
		{"/usr/bin/postern", "hold", "/usr/bin/postern", "/var/lib/postern", "yes"},
		{"/opt/postern/postern", "hold", "/opt/postern/postern", "/var/lib/postern", "yes"},
		{"/home/anna/postern/postern", "maildir:/var/mail/{domain}/{local}", "/usr/local/bin/postern", "/var/lib/postern /var/mail", "yes"},
		{"/tmp/go-build1/b001/exe/postern", "maildir:/srv/mail", "/usr/local/bin/postern", "/var/lib/postern /srv/mail", "yes"},
		{"/root/.cache/go-build/f2/f22c-d/postern", "maildir:/home/{local}/Maildir", "/usr/local/bin/postern", "/var/lib/postern /home", "no"},
		{"/usr/bin/postern", "maildir:/var/m-{local}/new", "/usr/bin/postern", "/var/lib/postern /var", "yes"},
	} {
		d := config.Draft{Hostname: "mx.example.org", Domain: "example.org", Deliver: c.deliver, Recipients: []string{"anna"}, State: "/var/lib/postern", Config: "/etc/postern/postern.hcl"}
		d.Program = installed(c.program)
		files, err := d.Files()
		if err != nil {
			t.Fatal(err)
		}
		unit := string(files["postern.service"])
		for _, line := range []string{"ExecStart=" + c.exec + " serve", "ReadWritePaths=" + c.paths + "\n", "ProtectHome=" + c.home + "\n"} {
			if !strings.Contains(unit, line) {
				t.Errorf("%s, %s: no line %q", c.program, c.deliver, line)
			}
		}
		var next bytes.Buffer
		printNext(&next, &d, "/etc/postern", c.program)
		if moved := strings.Contains(next.String(), "install -m 755 "+c.program+" "+c.exec); moved != (c.exec != c.program) {
			t.Errorf("%s: next says\n%s", c.program, next.String())
		}
	}
}
