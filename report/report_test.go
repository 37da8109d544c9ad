package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"postern/verdict"
)

func TestExitCode(t *testing.T) {
	for name, want := range map[string]int{
		"closed-postfix": 0, "backscatter": 0, "open-postfix": 1, "forwarded-port": 1, "open-over-six": 1, "hostile": 1,
		"catch-all": 0, "no-collector": 2, "trap": 2, "greylisted": 2, "refused-connection": 3, "no-such-name": 3, "not-smtp": 3,
	} {
		r, ok := fixtures()[name]
		if !ok {
			t.Errorf("no fixture %q", name)
			continue
		}
		if got := r.ExitCode(); got != want {
			t.Errorf("%s (%s): exit code %d, want %d", name, r.Verdict(), got, want)
		}
	}
}

// The answer stands in the first line, whatever else there is to say.
func TestAnswerComesFirst(t *testing.T) {
	word := map[verdict.Verdict]string{verdict.Open: "OPEN", verdict.Closed: "CLOSED", verdict.Accepts: "DOUBTFUL accepts: ", verdict.Inconclusive: "DOUBTFUL inconclusive: ", verdict.NotTested: "NOT TESTED"}
	for name, r := range fixtures() {
		line, _, _ := strings.Cut(written(t, r, TextOptions{}), "\n")
		if !strings.Contains(line, " "+word[r.Verdict()]) {
			t.Errorf("%s: the first line %q lacks %q", name, line, word[r.Verdict()])
		}
	}
}

func written(t *testing.T, r Report, o TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteText(&b, r, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What is folded keeps to 80 columns; lines to paste are whole, and one word
// may be longer than a line.
func TestTextKeepsTo80Columns(t *testing.T) {
	for name, r := range fixtures() {
		for _, line := range strings.Split(written(t, r, TextOptions{}), "\n") {
			paste := strings.HasPrefix(line, indent+"    ") && !strings.HasPrefix(line, strings.Repeat(" ", 25))
			if n := utf8.RuneCountInString(line); n > width && !paste && len(strings.Fields(line)) > 2 && name != "hostile" {
				t.Errorf("%s: %d columns: %q", name, n, line)
			}
		}
	}
}

// Colour is for what is open, and for nothing else; the text is the same.
func TestColour(t *testing.T) {
	for name, r := range fixtures() {
		bare, coloured := written(t, r, TextOptions{}), written(t, r, TextOptions{Colour: true})
		if stripped := strings.NewReplacer(red, "", plain, "").Replace(coloured); stripped != bare {
			t.Errorf("%s: colour changes the text", name)
		}
		want := 0
		if r.Verdict() == verdict.Open {
			want = 1
		}
		if got := strings.Count(coloured, red); got != want {
			t.Errorf("%s: %d stretches are red, want %d", name, got, want)
		}
	}
}

// Nothing that a server said may steer a terminal, forge a line, break a
// document or come out as something that is no text.
func TestHostileTextIsHarmless(t *testing.T) {
	r := fixtures()["hostile"]
	text := written(t, r, TextOptions{Transcript: "all"})
	for i, c := range text {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Fatalf("%q stands raw in the text: %q", c, text[max(0, i-20):i])
		}
	}
	if n := strings.Count(text, "\nmx.victim.example"); n > 0 {
		t.Error("a server's name has become a line of ours")
	}
	before, _, _ := strings.Cut(text, "\n*** ")
	for _, line := range strings.Split(before, "\n") {
		if len(line) > 2000 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	for name, write := range map[string]func(io.Writer) error{
		"json":  func(w io.Writer) error { return WriteJSON(w, []Report{r}, false) },
		"sarif": func(w io.Writer) error { return WriteSARIF(w, []Report{r}, "0") },
		"junit": func(w io.Writer) error { return WriteJUnit(w, []Report{r}) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !utf8.Valid(b.Bytes()) || bytes.ContainsAny(b.Bytes(), "\x1b\x00\x07\u009b") {
			t.Errorf("%s holds what is no text", name)
		}
		if name == "junit" {
			if err := xml.Unmarshal(b.Bytes(), new(junitSuites)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !json.Valid(b.Bytes()) {
			t.Errorf("%s is no JSON", name)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J", "\xff\u202e", strings.Repeat("é", 500), "a\nb\r\tc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := visible(s)
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(got) {
			t.Fatalf("%q gives %q", s, got)
		}
		if cut := strings.HasSuffix(got, "…"); !cut && utf8.RuneCountInString(s) > longest {
			t.Fatalf("%d letters came through", utf8.RuneCountInString(s))
		}
	})
}

// The counts that continuous integration shows are those of the cases, and no
// verdict other than closed is green as a whole.
func TestJUnitCounts(t *testing.T) {
	for name, r := range fixtures() {
		var b bytes.Buffer
		if err := WriteJUnit(&b, []Report{r}); err != nil {
			t.Fatal(err)
		}
		var all junitSuites
		if err := xml.Unmarshal(b.Bytes(), &all); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var recount junitSuite
		for _, c := range all.Suites[0].Cases {
			recount.add(c)
		}
		s := all.Suites[0]
		if s.Tests != recount.Tests || s.Failures != recount.Failures || s.Errors != recount.Errors || s.Skipped != recount.Skipped || all.Failures != s.Failures {
			t.Errorf("%s: counts %d %d %d %d, cases %d %d %d %d", name, s.Tests, s.Failures, s.Errors, s.Skipped, recount.Tests, recount.Failures, recount.Errors, recount.Skipped)
		}
		red := s.Failures > 0
		doubt := s.Errors > 0
		if code := r.ExitCode(); red != (code == 1) || code == 2 && !doubt || code == 3 && s.Skipped == 0 {
			t.Errorf("%s: exit code %d, and %d failures, %d errors, %d skipped", name, code, s.Failures, s.Errors, s.Skipped)
		}
	}
}

// Every result of SARIF names a rule that stands there, with a remedy.
func TestSARIFRules(t *testing.T) {
	var reports []Report
	for _, r := range fixtures() {
		reports = append(reports, r)
	}
	var b bytes.Buffer
	if err := WriteSARIF(&b, reports, "0.1.0"); err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	if len(run.Results) == 0 || len(run.Invocations[0].Notifications) == 0 {
		t.Fatalf("%d results, %d notifications", len(run.Results), len(run.Invocations[0].Notifications))
	}
	for _, r := range run.Results {
		rule := run.Tool.Driver.Rules[r.RuleIndex]
		if rule.ID != r.RuleID || rule.Help.Text == "" || rule.Short.Text == "" {
			t.Errorf("result %s has rule %q with help %q", r.RuleID, rule.ID, rule.Help.Text)
		}
		if uri := r.Locations[0].Physical.Artifact.URI; !regexp.MustCompile(`^(smtp|socks|http)://`).MatchString(uri) || strings.ContainsAny(uri, " '<>\"") {
			t.Errorf("location %q", uri)
		}
	}
}

// A transcript that nobody kept is said to be missing.
func TestTranscript(t *testing.T) {
	r := fixtures()["two-holes"]
	if text := written(t, r, TextOptions{Transcript: "auth-empty"}); !strings.Contains(text, "*** no conversation of form auth-empty") {
		t.Errorf("got %s", text)
	}
	if text := written(t, r, TextOptions{Transcript: "all"}); strings.Count(text, "\n*** 203.0.113.10:25, form ") != 122 {
		t.Errorf("%d conversations", strings.Count(text, "\n*** "))
	}
}

type full struct{ room int }

var errFull = errors.New("disk full")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// once fails at one write and works again after it.
type once struct{ at int }

func (o *once) Write(p []byte) (int, error) {
	if o.at--; o.at == 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A report that could not be written whole must not look as if it were.
func TestWriteErrorsComeOut(t *testing.T) {
	r := fixtures()["open-postfix"]
	for name, write := range map[string]func(io.Writer) error{
		"text":       func(w io.Writer) error { return WriteText(w, r, TextOptions{}) },
		"transcript": func(w io.Writer) error { return WriteText(w, r, TextOptions{Transcript: "all"}) },
		"json":       func(w io.Writer) error { return WriteJSON(w, []Report{r}, false) },
		"junit":      func(w io.Writer) error { return WriteJUnit(w, []Report{r}) },
		"sarif":      func(w io.Writer) error { return WriteSARIF(w, []Report{r}, "0") },
	} {
		var whole bytes.Buffer
		if err := write(&whole); err != nil {
			t.Fatal(err)
		}
		if err := write(&once{at: 1}); !errors.Is(err, errFull) {
			t.Errorf("%s, whose first write fails: %v", name, err)
		}
		for _, room := range []int{0, 10, whole.Len() / 2, whole.Len() - 1} {
			if err := write(&full{room}); !errors.Is(err, errFull) {
				t.Errorf("%s, %d bytes of room for %d: %v", name, room, whole.Len(), err)
			}
		}
	}
}
