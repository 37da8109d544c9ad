package config

import (
	"fmt"
	"io"
	"strings"
)

// WriteReference writes every word of the configuration as a page of the docs.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`# Configuration

HCL in the words of a postmaster. Every problem is told with file:line:column and what to do, all in one run: ` + "`postern config check FILE`" + `. ` + "`postern init`" + ` writes a first file. A text may be ` + "`env(\"NAME\")`" + `; a list may be ` + "`file(\"name\")`" + `, one entry a line. This page is made from the tables that read the file.

`)
	words(&b, &top)
	for _, each := range blocks {
		section := each.name
		if each.label != "" {
			section += fmt.Sprintf(` "%s"`, strings.ToUpper("name"))
		}
		fmt.Fprintf(&b, "## %s\n%s%s.\n\n", section, strings.ToUpper(each.says[:1]), each.says[1:])
		words(&b, each)
		for _, inner := range each.in {
			fmt.Fprintf(&b, "Within it, `%s \"NAME\" { ... }`: %s.\n\n", inner.name, inner.says)
			words(&b, inner)
		}
	}
	_, err := io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n")
	return err
}

func words(b *strings.Builder, k *block) {
	b.WriteString("| word | value | without it | what it says |\n| --- | --- | --- | --- |\n")
	for _, w := range k.words {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", w.name, w.what, w.def, strings.ReplaceAll(w.says, "|", `\|`))
	}
	b.WriteString("\n")
}
