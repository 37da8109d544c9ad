package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command that the pages of the doors show is run by a script: as it
// stands, or, where it names a host of the reader's, with a host of ours.
func TestPagesOfTheDoorsAreRun(t *testing.T) {
	var scripts strings.Builder
	for _, file := range glob(t, "testdata/script/*.txt") {
		scripts.WriteString(read(t, file))
	}
	named := regexp.MustCompile(`^postern check \S+\.example\.org (.+)$`)
	shown := 0
	for _, page := range glob(t, "../../docs/doors/*.md") {
		fenced := false
		for line := range strings.Lines(read(t, page)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "```"):
				fenced = !fenced
				continue
			case !fenced || !strings.HasPrefix(line, "postern "):
				continue
			}
			shown++
			run := regexp.QuoteMeta("exec " + line)
			if m := named.FindStringSubmatch(line); m != nil {
				run = `exec postern check --lab \S+ ` + regexp.QuoteMeta(m[1])
			}
			if !regexp.MustCompile(`(?m)^(! )?` + run + `$`).MatchString(scripts.String()) {
				t.Errorf("%s shows %q, and no script runs it", page, line)
			}
		}
		if fenced {
			t.Errorf("%s: a block has no end", page)
		}
	}
	if shown < 8 { // each of four pages shows how to see it, and how to check again
		t.Errorf("only %d commands were found", shown)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
