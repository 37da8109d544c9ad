package remedy

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"postern/plan"
)

var update = flag.Bool("update", false, "write docs/remedies.md anew")

// docs/remedies.md is made of the files that the program reads, so that a
// person who knows what they run finds every remedy in one place.
func TestDocumentIsFresh(t *testing.T) {
	const file = "../docs/remedies.md"
	want := document(known())
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/remedies.md is stale: go test ./remedy -update")
	}
}

func document(l library) string {
	var b strings.Builder
	b.WriteString(`# Remedies

What closes each hole, on each server that Postern knows. ` + "`postern check`" + ` prints the
part that fits what it found; this page is made of the same text (the folder
remedy). A word that begins with YOUR_ is for you to fill in, and
{{domain}}, {{ip}}, {{port}} and {{egress}} stand for what the check knows of your server.
When it is done, ` + "`postern check HOST --form ID`" + ` shows whether it worked.

## The holes

| hole | what it is | forms that find it |
| --- | --- | --- |
`)
	for _, hole := range allHoles() {
		var forms []string
		for _, f := range plan.All() {
			if f.Hole == hole {
				forms = append(forms, f.ID)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", hole, plan.Why(hole), strings.Join(forms, ", "))
	}
	for _, name := range l.names() {
		m := l.manuals[name]
		fmt.Fprintf(&b, "\n## %s\n", m.title)
		if signs := l.signs(name); len(signs) > 0 {
			fmt.Fprintf(&b, "\nTold by: %s.\n", strings.Join(signs, "; "))
		}
		if m.inside != "" {
			fmt.Fprintf(&b, "\nWhat is not here is under %s.\n", l.manuals[m.inside].title)
		}
		for _, heading := range m.order {
			fmt.Fprintf(&b, "\n### %s\n", heading)
			key, _, _ := strings.Cut(heading, ",")
			for _, s := range m.sections[strings.TrimSpace(key)] {
				fmt.Fprintf(&b, "\n%s\n", s.Text)
				if s.Command != "" {
					fmt.Fprintf(&b, "\n```\n%s\n```\n", s.Command)
				}
			}
		}
	}
	return b.String()
}

// signs returns by what a software is told, for people.
func (l library) signs(software string) []string {
	var list []string
	for _, p := range l.prints {
		if p.software == software {
			list = append(list, fmt.Sprintf("%s `%s`", words[p.where], strings.ReplaceAll(p.pattern.String(), "`", "'")))
		}
	}
	return list
}
