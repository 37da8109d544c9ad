package remedy

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/plan"
	"postern/verdict"
)

func TestFilesAreSound(t *testing.T) {
	if _, err := readLibrary(); err != nil {
		t.Fatal(err)
	}
}

// allHoles returns the holes of the forms, in the order in which they come up.
func allHoles() []string {
	var list []string
	for _, f := range plan.All() {
		if !slices.Contains(list, f.Hole) {
			list = append(list, f.Hole)
		}
	}
	return list
}

func TestEveryHoleHasARemedyOnEverySoftware(t *testing.T) {
	for _, software := range known().names() {
		for _, hole := range allHoles() {
			steps := known().steps(software, hole)
			if len(steps) == 0 || steps[0].Text == "" {
				t.Errorf("%s has no remedy for %q, and unknown.md has none either", software, hole)
			}
		}
	}
	for _, key := range otherKeys {
		if key != keyInside && len(known().manuals[general].sections[key]) == 0 {
			t.Errorf("unknown.md has no section %q, so there is nothing to fall back to", key)
		}
	}
}

// What a person would have to guess must be explained in the same step.
func TestPlaceholdersAreExplained(t *testing.T) {
	placeholder := regexp.MustCompile(`YOUR_[A-Z]+`)
	for name, m := range known().manuals {
		for key, steps := range m.sections {
			for _, s := range steps {
				for _, word := range placeholder.FindAllString(s.Command, -1) {
					if !strings.Contains(s.Text, word) {
						t.Errorf("%s.md, %s: the lines hold %s, which the text before them does not explain", name, key, word)
					}
				}
				filled := fill(s, verdict.Judgement{})
				if left := regexp.MustCompile(`\{\{[a-z]*\}\}|<[a-z-]+>|example\.(com|org)|x\.x\.x`).FindString(filled.Text + filled.Command); left != "" {
					t.Errorf("%s.md, %s: %q stays in the lines to paste", name, key, left)
				}
				if strings.Contains(filled.Command, "YOUR_DOMAIN") && !strings.Contains(filled.Text, "YOUR_DOMAIN") {
					t.Errorf("%s.md, %s: YOUR_DOMAIN is not explained", name, key)
				}
			}
		}
	}
}

func TestReadersNameTheLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no title", "## plain\n", `m.md:1: unknown hole "plain"`},
		{"text before a section", "# T\n\nhello\n", "m.md:3: text before the first section"},
		{"unknown hole", "# T\n\n## open-door\n\ntext\n", `m.md:3: unknown hole "open-door"`},
		{"section twice", "# T\n\n## quoting\n\na\n\n## quoting\n\nb\n", `m.md:7: a second section for "quoting"`},
		{"empty section", "# T\n\n## quoting\n\n## unicode\n\nb\n", `m.md:5: section "quoting" is empty`},
		{"lines without a sentence", "# T\n\n## quoting\n\n```\nrm\n```\n", "m.md:7: a code block without a sentence"},
		{"block without an end", "# T\n\n## quoting\n\na\n\n```\nrm\n", "m.md:9: the code block has no end"},
		{"empty block", "# T\n\n## quoting\n\na\n\n```\n```\n", "m.md:8: an empty code block"},
		{"second title", "# T\n# U\n", "m.md:2: a second title"},
	} {
		_, err := parseManual("m.md", c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q gives %v, want %s", c.name, c.text, err, c.want)
		}
	}
	software := map[string]manual{"postfix": {}}
	for _, c := range []struct{ line, want string }{
		{"postfix\tbanner\tx\t5", "f.tsv:1: 4 cells"},
		{"qmail\tbanner\tx\t5\tman", "f.tsv:1: there is no qmail.md"},
		{"postfix\tshoes\tx\t5\tman", `f.tsv:1: unknown place "shoes"`},
		{"postfix\tbanner\t/(/\t5\tman", "f.tsv:1: error parsing regexp"},
		{"postfix\tbanner\t/x*/\t5\tman", "matches everything"},
		{"postfix\tbanner\tx\t10\tman", `weight "10"`},
		{"postfix\tbanner\tx\t5\t", "needs a source"},
	} {
		_, err := parseFingerprints("f.tsv", c.line, software)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q gives %v, want %s", c.line, err, c.want)
		}
	}
}

// The law: a fault names its line, and what is taken has text for every key.
func FuzzManual(f *testing.F) {
	for _, name := range []string{"postfix.md", "unknown.md", "mailcow.md"} {
		text, err := files.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("# T\n\n## quoting\n\n```\n```\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseManual("m.md", text)
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if !regexp.MustCompile(`^m\.md:[0-9]+: `).MatchString(line) && !strings.Contains(text, "\r") {
					t.Fatalf("fault %q does not name its line", line)
				}
			}
			return
		}
		for key, steps := range m.sections {
			if len(steps) == 0 || steps[0].Text == "" {
				t.Fatalf("section %q was taken without a step", key)
			}
		}
	})
}

func FuzzFingerprints(f *testing.F) {
	text, err := files.ReadFile("fingerprints.tsv")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	software := known().manuals
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseFingerprints("f.tsv", text, software)
		if err != nil && !strings.HasPrefix(err.Error(), "f.tsv:") {
			t.Fatalf("fault %q does not name its line", err)
		}
		for _, p := range list {
			if p.pattern.MatchString("") || p.weight < 1 || words[p.where] == "" {
				t.Fatalf("%+v was taken", p)
			}
		}
	})
}
