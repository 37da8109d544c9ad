package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/door"
	"postern/plan"
	"postern/remedy"
	"postern/verdict"
)

// SARIF 2.1.0 (OASIS), as far as it is needed: a rule for each form that has a
// result, a result for each form that passed, a notification for each port
// that could not be judged.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID         string            `json:"id"`
		Name       string            `json:"name"`
		Short      sarifText         `json:"shortDescription"`
		Help       sarifText         `json:"help"`
		Properties map[string]string `json:"properties"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

// WriteSARIF writes SARIF 2.1.0: a rule is a form, a location a target. What
// arrived is an error, what was taken a warning, backscatter a note.
func WriteSARIF(w io.Writer, reports []Report, version string) error {
	run := &sarifRun{
		Tool:    sarifTool{sarifDriver{Name: "postern", Version: version, Rules: []sarifRule{}}},
		Results: []sarifResult{},
	}
	in := sarifInvocation{Successful: true, Notifications: []sarifNotification{}}
	for _, r := range reports {
		name := cmp.Or(r.Given, r.Host)
		if len(r.doors()) == 0 {
			in.Notifications = append(in.Notifications, sarifNotification{"warning", sarifText{notTested(r)}, []sarifLocation{location("smtp", name, "")}})
		}
		for _, d := range r.doors() {
			where := location(scheme(d.Door), name, d.Addr.String())
			if d.Verdict == verdict.Inconclusive || d.Verdict == verdict.NotTested {
				in.Notifications = append(in.Notifications, sarifNotification{"warning", sarifText{d.Why}, []sarifLocation{where}})
			}
			for _, f := range d.Forms {
				run.add(d, f, where)
			}
		}
	}
	run.Invocations = []sarifInvocation{in}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{*run}})
}

func (run *sarifRun) add(d *Door, f verdict.FormResult, where sarifLocation) {
	level, message := "", ""
	switch f.State {
	case verdict.Arrived:
		level = "error"
		message = fmt.Sprintf("Strangers' mail leaves through this server: RCPT TO:<%s> arrived from %s.", visible(f.Envelope.Recipient), f.Arrival.Peer.Addr())
	case verdict.Accepted:
		level = "warning"
		message = fmt.Sprintf("The server took RCPT TO:<%s>; nothing arrived so far.", visible(f.Envelope.Recipient))
	case verdict.Bounced:
		level = "note"
		message = "The server took mail that it does not serve and returned it to the forged sender (backscatter)."
	case verdict.Noted:
		if !f.Ours {
			return
		}
		level = "note"
		message = "The proxy leads strangers to other ports than those for mail."
	case verdict.Refused, verdict.Local, verdict.Untested:
		return
	}
	run.Results = append(run.Results, sarifResult{
		RuleID: f.Form.ID, RuleIndex: run.rule(d, f.Form), Level: level, Message: sarifText{message},
		Locations: []sarifLocation{where}, Fingerprints: map[string]string{"postern/v1": f.Form.ID + " " + d.Addr.String()},
	})
}

// rule returns the index of a form's rule, which it adds where it is missing.
func (run *sarifRun) rule(d *Door, f plan.Form) int {
	rules := &run.Tool.Driver.Rules
	if i := slices.IndexFunc(*rules, func(r sarifRule) bool { return r.ID == f.ID }); i >= 0 {
		return i
	}
	var help strings.Builder
	for _, s := range remedy.Hole(d.Judgement, f.Hole) {
		help.WriteString(strings.TrimSpace(s.Text+"\n"+s.Command) + "\n\n")
	}
	*rules = append(*rules, sarifRule{
		ID: f.ID, Name: f.Hole, Short: sarifText{plan.Why(f.Hole)}, Help: sarifText{strings.TrimSpace(help.String())},
		Properties: map[string]string{"source": f.Source},
	})
	return len(*rules) - 1
}

// scheme is that of the URI of a door.
func scheme(d door.Door) string {
	switch d {
	case door.SOCKS:
		return "socks"
	case door.Connect:
		return "http"
	case door.SMTP, door.Forward:
	}
	return "smtp"
}

// location is a target as a place. Readers of SARIF want a URI; the name that
// the person gave stands beside it.
func location(scheme, name, addr string) sarifLocation {
	return sarifLocation{
		Physical: sarifPhysical{sarifArtifact{scheme + "://" + uriHost(cmp.Or(addr, name))}},
		Logical:  []sarifLogical{{visible(name), "resource"}},
	}
}

// uriHost percent-encodes what may not stand in a URI's authority (RFC 3986
// section 3.2), such as the zone of an IPv6 address.
func uriHost(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_~:[]", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
