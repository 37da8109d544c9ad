package report

import (
	"bytes"
	"testing"

	"postern/verdict"
)

// The documents about many targets are the same, made of summaries.
func TestSummaryLosesNothingThatDocumentsShow(t *testing.T) {
	var whole, short []Report
	kept := 0
	for _, r := range fixtures() {
		whole, short = append(whole, r), append(short, r.Summary())
	}
	for _, r := range short {
		for _, d := range r.doors() {
			for i, f := range d.Forms {
				passed := f.State == verdict.Arrived || f.State == verdict.Accepted
				if f.Transcript != nil && !passed || d.Exchanges[i].Transcript != nil {
					t.Fatalf("%s: form %s was %s, and its conversation is kept", r.Given, f.Form.ID, f.State)
				}
				if f.Transcript != nil {
					kept++
				}
			}
		}
	}
	if kept == 0 {
		t.Error("no conversation of a form that passed is kept")
	}
	var documents [2]bytes.Buffer
	for i, list := range [][]Report{whole, short} {
		if err := WriteJUnit(&documents[i], list); err != nil {
			t.Fatal(err)
		}
		if err := WriteSARIF(&documents[i], list, "0.1.0"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(documents[0].Bytes(), documents[1].Bytes()) {
		t.Error("JUnit or SARIF made of summaries differs from that made of whole reports")
	}
	for _, r := range whole {
		for _, d := range r.doors() {
			for _, f := range d.Forms {
				if f.State == verdict.Refused && f.Transcript != nil {
					return
				}
			}
		}
	}
	t.Error("Summary took the conversations out of the report it was made of, or the fixtures have none")
}
