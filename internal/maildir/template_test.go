package maildir

import (
	"errors"
	"path"
	"strings"
	"testing"

	"postern/mail"
)

func TestParseTemplate(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/var/mail/{domain}/{local}/Maildir", ""},
		{"/var/mail/{local}@{domain}", ""},
		{"/var/mail/x-{local}", ""},
		{"/var/mail/archive", ""},
		{"var/mail/{local}", `maildir "var/mail/{local}": not an absolute path; begin it with /`},
		{"", `maildir "": not an absolute path; begin it with /`},
		{"/", `maildir "/": a path has no empty part, no . and no ..; write "/"`},
		{"/archive", `maildir "/archive": needs a folder of its own above it; write it as /var/mail/archive`},
		{"/{domain}/{local}", `maildir "/{domain}/{local}": needs a folder of its own above it; write it as /var/mail/{domain}/{local}`},
		{"/var/mail/../{local}", `maildir "/var/mail/../{local}": a path has no empty part, no . and no ..; write "/var/{local}"`},
		{"/var//mail/{local}", `maildir "/var//mail/{local}": a path has no empty part, no . and no ..; write "/var/mail/{local}"`},
		{"/var/mail/{user}", `maildir "/var/mail/{user}": unknown placeholder in "{user}"; there are {local} and {domain}`},
		{"/var/mail/{local", `maildir "/var/mail/{local": unknown placeholder in "{local"; there are {local} and {domain}`},
		{"/var/mail/{local}-{domain}", `maildir "/var/mail/{local}-{domain}": two recipients could share the folder "{local}-{domain}"; write {local}@{domain}, or a / between`},
	} {
		p, err := ParseTemplate(c.in)
		switch {
		case c.want == "" && (err != nil || p.String() != c.in):
			t.Errorf("%s: %s, %v", c.in, p, err)
		case c.want != "" && (err == nil || err.Error() != c.want || p.String() != ""):
			t.Errorf("%s: %v, want %s", c.in, err, c.want)
		}
	}
}

func TestFolder(t *testing.T) {
	const both = "/var/mail/{domain}/{local}/Maildir"
	for _, c := range []struct{ template, separator, to, want string }{
		{both, "", "anna@d.example", "d.example/anna/Maildir"},
		{both, "", "Anna@D.Example", "d.example/anna/Maildir"},
		{both, "", "anna@bücher.example", "xn--bcher-kva.example/anna/Maildir"},
		{both, "", "anna+list@d.example", "d.example/anna+list/Maildir"},
		{both, "+", "anna+list+x@d.example", "d.example/anna/Maildir"},
		{both, "-", "anna-list@d.example", "d.example/anna/Maildir"},
		{"/var/mail/{local}@{domain}", "", "a.b@d.example", "a.b@d.example"},
		{"/var/mail/{local}", "", "postmaster", "postmaster"},
		{"/var/mail/archive", "", `"../x"@d.example`, "archive"},
		{both, "", "postmaster", ""},
		{both, "+", "+list@d.example", ""},
		{both, "", `".."@d.example`, ""},
		{both, "", `".hidden"@d.example`, ""},
		{both, "", `"../../etc"@d.example`, ""},
		{both, "", "a/b@d.example", ""},
		{both, "", `"a b"@d.example`, ""},
		{both, "", "änne@d.example", ""},
		{both, "", "anna@[192.0.2.1]", ""},
		{both, "", "anna%far.example@d.example", ""},
		{both, "", "{domain}@d.example", ""},
	} {
		got, err := template(t, c.template).folder(forward(t, c.to), c.separator)
		var e *Error
		if got != c.want || (err == nil) != (c.want != "") || err != nil && (!errors.As(err, &e) || e.Reply.String() != "550 5.1.1 No such mailbox") {
			t.Errorf("%s of %s: %q, %v; want %q", c.template, c.to, got, err, c.want)
		}
	}
}

// FuzzFolder: no two recipients share a folder unless their names differ in
// case or detail only, and no folder leaves the base.
func FuzzFolder(f *testing.F) {
	f.Add("anna", "../x")
	f.Add("a.b", "a-b")
	f.Add("{local}", "Anna+x")
	f.Fuzz(func(t *testing.T, a, b string) {
		d, err := mail.ParseDomain("d.example")
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParseTemplate("/var/mail/{local}@{domain}/Maildir")
		if err != nil {
			t.Fatal(err)
		}
		var folders []string
		for _, local := range []string{a, b} {
			address, err := mail.NewAddress(local, d)
			if err != nil {
				return
			}
			folder, err := p.folder(mail.ForwardTo(address), "+")
			if err != nil {
				return
			}
			if path.Clean(folder) != folder || strings.Count(folder, "/") != 1 || strings.HasPrefix(folder, ".") || strings.ContainsAny(folder, "\x00\\") {
				t.Fatalf("%q: %q", local, folder)
			}
			folders = append(folders, folder)
		}
		cut := func(s string) string { s, _, _ = strings.Cut(strings.ToLower(s), "+"); return s }
		if same := cut(a) == cut(b); same != (folders[0] == folders[1]) {
			t.Fatalf("%q and %q: %q", a, b, folders)
		}
	})
}
