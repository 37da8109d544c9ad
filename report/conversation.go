package report

import (
	"fmt"
	"io"

	"postern/transcript"
)

// transcripts writes the conversations of one form, or of all. Forms that
// share a session share its conversation, which is written once.
func (t *text) transcripts() {
	if t.o.Transcript == "" {
		return
	}
	written := map[*transcript.Transcript]bool{}
	for _, d := range t.r.doors() {
		for _, f := range d.Forms {
			if t.o.Transcript != "all" && t.o.Transcript != f.Form.ID || f.Transcript == nil || written[f.Transcript] {
				continue
			}
			written[f.Transcript] = true
			t.line("")
			t.line(fmt.Sprintf("*** %s, form %s: %s", d.Addr, f.Form.ID, f.State))
			t.conversation(f.Transcript)
		}
	}
	if len(written) == 0 {
		t.line("")
		t.line("*** no conversation of form " + visible(t.o.Transcript) + " was kept: it was not played")
	}
}

func (t *text) conversation(c io.WriterTo) {
	if t.err == nil {
		_, t.err = c.WriteTo(t.w)
	}
}
