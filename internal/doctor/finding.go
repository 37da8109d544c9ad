package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"postern/internal/problem"
)

// A Level says how much a finding matters.
type Level int

// The levels, from what is well to what must be mended.
const (
	OK      Level = iota
	Note          // worth knowing, also that something cannot be known from here
	Warning       // should be mended
	Problem       // must be mended: mail is refused, lost, or relayed for strangers
)

var levels = []string{"ok", "note", "warning", "problem"}

// String returns the word that a person reads.
func (l Level) String() string { return levels[l] }

// MarshalText returns the same word for JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A Finding is what one check saw.
type Finding struct {
	Check string      // what was looked at: a check's name, or a parameter of another server
	Level Level       // how much it matters
	At    problem.Pos // where it is written; zero where it is no text
	What  string      // what was seen
	Do    string      // what to do; "" when there is nothing
	Forms []string    // forms of postern check that would relay for a stranger
}

// MarshalJSON writes a finding with the names that other programs may rely on.
func (f Finding) MarshalJSON() ([]byte, error) {
	at := ""
	if !f.At.IsZero() {
		at = f.At.String()
	}
	return json.Marshal(struct {
		Check string   `json:"check"`
		Level Level    `json:"level"`
		At    string   `json:"at,omitempty"`
		What  string   `json:"what"`
		Do    string   `json:"do,omitempty"`
		Forms []string `json:"forms,omitempty"`
	}{f.Check, f.Level, at, f.What, f.Do, f.Forms})
}

// Worst returns the greatest level among findings; OK when there is none.
func Worst(list []Finding) Level {
	worst := OK
	for _, f := range list {
		worst = max(worst, f.Level)
	}
	return worst
}

// width is how wide a terminal is taken to be.
const width = 80

// WriteText prints findings for a person, the worst first, in 80 columns. What
// is to be pasted stands on a line of its own and is never folded.
func WriteText(w io.Writer, list []Finding) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Finding) int { return int(b.Level) - int(a.Level) })
	var b strings.Builder
	for _, f := range list {
		what := f.What
		if !f.At.IsZero() {
			what = f.At.String() + ": " + what
		}
		paragraph(&b, fmt.Sprintf("%-8s %-12s ", f.Level, f.Check), visible(what))
		if len(f.Forms) > 0 {
			paragraph(&b, margin+"forms  ", formsInWords(f.Forms))
		}
		for i, line := range strings.Split(f.Do, "\n") {
			head := margin + "do     "
			if i > 0 {
				head = margin + "       "
			}
			switch {
			case line == "":
			case isCommand(line):
				b.WriteString(head + visible(line) + "\n")
			default:
				paragraph(&b, head, visible(line))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var margin = strings.Repeat(" ", 9)

// isCommand tells what Do holds to be pasted from what it says.
func isCommand(line string) bool {
	word, _, _ := strings.Cut(line, " ")
	return slices.Contains([]string{"postconf", "postfix", "postern", "nft", "setcap", "sysctl", "timedatectl", "systemctl", "df"}, word)
}

// formsInWords names a few forms and counts the rest.
func formsInWords(forms []string) string {
	const few = 5
	if len(forms) <= few+1 {
		return strings.Join(forms, " ")
	}
	return fmt.Sprintf("%s (and %d more)", strings.Join(forms[:few], " "), len(forms)-few)
}

func paragraph(b *strings.Builder, head, text string) {
	indent := strings.Repeat(" ", len(margin))
	if strings.HasPrefix(head, margin) {
		indent = strings.Repeat(" ", len([]rune(head)))
	}
	line := strings.TrimRight(head, " ")
	if len(line) < len(head) {
		line = head[:len(head)-1]
	}
	for word := range strings.FieldsSeq(text) {
		if len([]rune(line))+1+len([]rune(word)) > width && strings.TrimSpace(line) != "" && len(line) > len(indent) {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent[:len(indent)-1]
		}
		line += " " + word
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// visible makes what others wrote harmless for a terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
