package report

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"

	"postern/verdict"
)

// The XML that continuous integration reads: a suite for each target, a case
// for each form on each port, and one for the verdict on the port, so that
// what is doubtful as a whole does not look green.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr,omitempty"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string       `xml:"classname,attr"`
		Name    string       `xml:"name,attr"`
		Failure *junitResult `xml:"failure,omitempty"`
		Error   *junitResult `xml:"error,omitempty"`
		Skipped *junitResult `xml:"skipped,omitempty"`
	}
	junitResult struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes JUnit XML: open is a failure, doubtful an error, untested
// skipped.
func WriteJUnit(w io.Writer, reports []Report) error {
	all := junitSuites{Name: "postern check"}
	for _, r := range reports {
		s := r.suite()
		all.Suites = append(all.Suites, s)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r Report) suite() junitSuite {
	s := junitSuite{Name: visible(cmp.Or(r.Given, r.Host)), Time: fmt.Sprintf("%.3f", r.Took.Seconds())}
	if !r.Started.IsZero() {
		s.Timestamp = r.Started.UTC().Format("2006-01-02T15:04:05")
	}
	doors := r.doors()
	for _, d := range doors {
		class := d.Addr.String()
		s.add(verdictCase(class, d))
		for _, f := range d.Forms {
			s.add(formCase(class, f))
		}
	}
	if len(doors) == 0 {
		s.add(junitCase{Class: s.Name, Name: "verdict", Skipped: &junitResult{Message: visible(notTested(r)), Type: string(verdict.NotTested)}})
	}
	return s
}

func (s *junitSuite) add(c junitCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

func verdictCase(class string, d *Door) junitCase {
	c := junitCase{Class: class, Name: "verdict"}
	result := &junitResult{Message: visible(d.Why), Type: string(d.Verdict), Text: visible(d.Do)}
	switch d.Verdict {
	case verdict.Open:
		c.Failure = result
	case verdict.Accepts, verdict.Inconclusive:
		c.Error = result
	case verdict.NotTested:
		c.Skipped = result
	case verdict.Closed:
	}
	return c
}

func formCase(class string, f verdict.FormResult) junitCase {
	c := junitCase{Class: class, Name: f.Form.ID}
	result := &junitResult{Type: string(f.State)}
	switch f.State {
	case verdict.Arrived:
		result.Message = visible(fmt.Sprintf("RCPT TO:<%s> arrived from %s", f.Envelope.Recipient, f.Arrival.Peer.Addr()))
		result.Text = f.Transcript.String()
		c.Failure = result
	case verdict.Accepted:
		result.Message = visible(fmt.Sprintf("RCPT TO:<%s> was taken (%s); nothing arrived", f.Envelope.Recipient, f.Reply))
		result.Text = f.Transcript.String()
		c.Error = result
	case verdict.Untested:
		result.Message = visible(f.Reason)
		c.Skipped = result
	case verdict.Refused, verdict.Bounced, verdict.Local, verdict.Noted:
	}
	return c
}
