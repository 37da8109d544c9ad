package plan

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
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

Placeholders: {tu} the token, {td} the collector's domain, {x} our neutral sender, {host} the server's name, {dom} a domain that it serves, {ip} its address as a literal, {addr} the same without brackets, {rd} a domain that it relays for, {mxd} a name of ours that lists it as the second MX, {local} a mailbox of its own, {cip} the collector's address literal, {tdupper} {td} in capitals, {tdwide} {td} with ideographic full stops.

Sets: *core* is what ` + "`--quick`" + ` plays; *full* is the rest of the battery; *owner* also touches a mailbox of the server's; *login* is played with ` + "`--try-logins`" + ` only.

`)
	holeOf := map[string]bool{}
	for _, f := range Forms() {
		if holeOf[f.Hole] {
			continue
		}
		holeOf[f.Hole] = true
		fmt.Fprintf(&b, "## %s\n%s.\n\n| form | set | MAIL FROM | RCPT TO | move | source |\n| --- | --- | --- | --- | --- | --- |\n", f.Hole, strings.ToUpper(Why(f.Hole)[:1])+Why(f.Hole)[1:])
		for _, g := range Forms() {
			if g.Hole == f.Hole {
				row := rowOf(g.ID)
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", g.ID, g.Set, code(row[2]), code(row[3]), code(row[4]), g.Source)
			}
		}
		b.WriteString("\n")
	}
	return b.Bytes()
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
