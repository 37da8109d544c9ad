package plan

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"postern/door"
)

var update = flag.Bool("update", false, "write docs/forms.md")

// docs/forms.md is the table of forms for people; a stale one fails.
func TestFormsPage(t *testing.T) {
	const file = "../docs/forms.md"
	want := formsPage()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/forms.md is not what forms.tsv says: run go test ./plan -update")
	}
}

func formsPage() []byte {
	var b bytes.Buffer
	b.WriteString(`# The forms

A form is one trick: an envelope that a mail server must refuse to a stranger, and how it is played. This page is made from plan/forms.tsv by ` + "`go test ./plan -update`" + `; to add a form, add a line there.

A form at the socks or connect door asks a proxy for a place, and, if it is led there, sends its token's message: the place stands under "move".

Placeholders: {tu} the local part with the token, {t} the token, {td} the collector's domain, {x} our neutral sender, {host} the server's name, {dom} a domain that it serves, {ip} its address as a literal, {addr} the same without brackets, {rd} a domain that it relays for, {partner} a domain that it may trust, {mxd} a name of ours that lists it as the second MX, {local} a mailbox of its own, {cip} the collector's address literal, {tdupper} {td} in capitals, {tdwide} {td} with ideographic full stops; {ch}, {c4}, {c6} the collector's host name, IPv4 and IPv6 address, {p25}, {p443}, {p465}, {p587} its ports, {xa} the proxy's own address.

Sets: *core* is what ` + "`--quick`" + ` plays; *full* is the rest of the battery; *owner* also touches a mailbox of the server's; *info* proves nothing about mail and tells what the answers to the others mean; *login* is played with ` + "`--try-logins`" + ` only, *inside* with ` + "`--inside`" + ` only.

`)
	for _, d := range []door.Door{door.SMTP, door.SOCKS, door.Connect} {
		fmt.Fprintf(&b, "# At the %s door\n\n", d)
		formsOf(&b, At(d))
	}
	b.WriteString(loginsPage)
	for _, r := range rows(loginsTSV) {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", r.cells[0], r.cells[1], r.cells[2])
	}
	return b.Bytes()
}

const loginsPage = `# The logins

With ` + "`--try-logins`" + ` the forms auth-guess, socks5-guess and connect-guess try these, or those of ` + "`--logins FILE`" + ` instead, a line USER:PASSWORD for each, whose passwords are shown nowhere. {dom} and {host} stand for the first label of the server's domain and name. At a mail server each is tried as it is and with @domain; by PLAIN or LOGIN, by CRAM-MD5, before STARTTLS and after it, as far as these are offered. No account is given more than four wrong passwords, round by round with two seconds between any two tries, after everything else was played; it ends when the server puts us off or turns us away. The report says what was tried, and which login was taken. They stand in plan/logins.tsv.

| user | password | source |
| --- | --- | --- |
`

func formsOf(b *bytes.Buffer, forms []Form) {
	holeOf := map[string]bool{}
	for _, f := range forms {
		if holeOf[f.Hole] {
			continue
		}
		holeOf[f.Hole] = true
		fmt.Fprintf(b, "## %s\n%s.\n\n| form | set | MAIL FROM | RCPT TO | move | source |\n| --- | --- | --- | --- | --- | --- |\n", f.Hole, strings.ToUpper(Why(f.Hole)[:1])+Why(f.Hole)[1:])
		for _, g := range forms {
			if g.Hole == f.Hole {
				row := rowOf(g.ID)
				fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", g.ID, g.Set, code(row[3]), code(row[4]), code(row[5]), g.Source)
			}
		}
		b.WriteString("\n")
	}
}

func rowOf(id string) []string {
	for _, r := range rows(formsTSV) {
		if r.cells[0] == id {
			return r.cells
		}
	}
	return nil
}

func code(cell string) string {
	if cell == "-" {
		return ""
	}
	if cell == "" {
		cell = "<>"
	}
	return "`" + strings.ReplaceAll(cell, "|", "\\|") + "`"
}
