package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every exit code of the program has its row in docs/exit.md, and no help text
// names one that has none.
func TestExitCodesAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/exit.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	row := func(code string) bool { return strings.Contains(string(page), "\n| "+code+" |") }
	codes := regexp.MustCompile(`exit[A-Z][A-Za-z]* += (\d+)`).FindAllSubmatch(source, -1)
	if len(codes) < 10 {
		t.Fatalf("%d codes were found in main.go", len(codes))
	}
	for _, c := range codes {
		if !row(string(c[1])) {
			t.Errorf("exit code %s has no row", c[1])
		}
	}
	walk(rootCommand(), func(c *cobra.Command) {
		_, text, told := strings.Cut(c.Long, "Exit code:")
		if !told {
			return
		}
		for _, n := range regexp.MustCompile(`\b\d+\b`).FindAllString(text, -1) {
			if !row(n) {
				t.Errorf("%s: exit code %s has no row", c.CommandPath(), n)
			}
		}
	})
}

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

// Every command says what it is for and shows how it is called, and each group
// refuses a word that it does not have.
func TestEveryCommandIsTold(t *testing.T) {
	groups := 0
	walk(rootCommand(), func(c *cobra.Command) {
		switch {
		case c.Name() == "help" || strings.HasPrefix(c.CommandPath(), "postern completion") || !c.HasParent():
		case c.Short == "":
			t.Errorf("%s does not say what it is for", c.CommandPath())
		case c.HasSubCommands():
			groups++
			err := c.RunE(c, []string{"no-such-word"})
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is no command of %s", "no-such-word", c.CommandPath())) {
				t.Errorf("%s no-such-word: %v", c.CommandPath(), err)
			}
		case c.Example == "":
			t.Errorf("%s has no example", c.CommandPath())
		}
	})
	if groups < 4 {
		t.Errorf("%d commands have subcommands", groups)
	}
}
