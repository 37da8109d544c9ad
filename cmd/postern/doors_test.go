package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/door"
)

// Every command that a page of docs/doors shows is run by a script. What is
// checked there has an address at which nothing listens in place of a name.
func TestCommandsOfTheDoorPagesAreRun(t *testing.T) {
	var scripts strings.Builder
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(text)
	}
	block := regexp.MustCompile("(?s)```\n(.*?)```")
	name := regexp.MustCompile(`\b(mx|proxy)\.example\.org\b`)
	for _, d := range door.All() {
		page := "../../docs/doors/" + d.String() + ".md"
		text, err := os.ReadFile(page)
		if err != nil {
			t.Errorf("door %s has no page: %v", d, err)
			continue
		}
		n := 0
		for _, b := range block.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(b[1]) {
				n++
				command := name.ReplaceAllString(strings.TrimSpace(line), "127.0.0.1:1")
				if !strings.Contains(scripts.String(), "exec "+command+"\n") {
					t.Errorf("%s: no script of testdata/script runs %q", page, command)
				}
			}
		}
		if n == 0 {
			t.Errorf("%s shows no command", page)
		}
	}
}
