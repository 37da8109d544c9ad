package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"postern/internal/plaintext"
	"postern/plan"
	"postern/report"
)

func howToOwn(t plan.Target) string {
	return fmt.Sprintf(`three ways to say that it is yours:
  run the check on that machine itself
  postern check %s --i-own          if it is yours, or you have its owner's order
  postern check %s --prove          prints a TXT record for its zone; publish it, check again`, t.Given, t.Given)
}

// stream returns what prints the reports one by one.
func (f *checkFlags) stream(c *cobra.Command, l *live) *stream {
	out := c.OutOrStdout()
	s := &stream{out: out, live: l, summary: f.junit != "" || f.sarif != ""}
	o := report.TextOptions{Colour: colour(out), Transcript: f.transcript, Flags: givenFlags(c)}
	switch {
	case f.json:
		s.write = func(w io.Writer, r report.Report) error { return report.WriteJSON(w, []report.Report{r}, f.one) }
	case f.junit == "-" || f.sarif == "-":
		s.write = func(io.Writer, report.Report) error { return nil }
	default:
		s.write = func(w io.Writer, r report.Report) error { return report.WriteText(w, r, o) }
	}
	return s
}

// document writes the documents that are about all targets.
func (f *checkFlags) document(out io.Writer, reports []report.Report) error {
	for _, doc := range []struct {
		file  string
		write func(io.Writer) error
	}{
		{f.junit, func(w io.Writer) error { return report.WriteJUnit(w, reports) }},
		{f.sarif, func(w io.Writer) error { return report.WriteSARIF(w, reports, version()) }},
	} {
		if doc.file == "" {
			continue
		}
		if err := writeTo(out, doc.file, doc.write); err != nil {
			return err
		}
	}
	return nil
}

// givenFlags returns the flags of the command line that a second look needs
// too, quoted for a shell.
func givenFlags(c *cobra.Command) string {
	var words []string
	c.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "json", "one", "junit", "sarif", "transcript", "form", "quick", "server", "targets", "parallel":
			return // how it is printed, and what is played, is chosen anew
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		switch {
		case f.Value.Type() == "bool" && value == "true":
			words = append(words, "--"+f.Name)
		default:
			words = append(words, "--"+f.Name, quoted(value))
		}
	})
	return strings.Join(words, " ")
}

// quoted returns s as one word of a shell.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func writeTo(out io.Writer, file string, write func(io.Writer) error) error {
	if file == "-" {
		return write(out)
	}
	w, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := write(w); err != nil {
		_ = w.Close()
		return err
	}
	return w.Close()
}

// colour reports whether w is a terminal whose user wants colour (no-color.org).
func colour(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// A formFact is a form as JSON has it.
type formFact struct {
	Form   string `json:"form"`
	Door   string `json:"door"`
	Set    string `json:"set"`
	Hole   string `json:"hole"` // what it looks for
	Source string `json:"source"`
}

func printForms(w io.Writer, asJSON bool) error {
	if asJSON {
		facts := []formFact{}
		for _, f := range plan.All() {
			facts = append(facts, formFact{f.ID, f.Door.String(), string(f.Set), f.Hole, f.Source})
		}
		return printJSON(w, facts)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FORM\tDOOR\tSET\tLOOKS FOR\tSOURCE")
	for _, f := range plan.All() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.ID, f.Door, f.Set, f.Hole, f.Source)
	}
	return t.Flush()
}

// readLines returns the lines of a file, or of standard input for "-", without
// blank ones and comments.
func readLines(file string) ([]string, error) {
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var all []string
	s := plaintext.Scanner(in)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all, s.Err()
}
