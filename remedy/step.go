package remedy

import (
	"fmt"
	"slices"
	"strings"

	"postern/door"
	"postern/verdict"
)

// A Step is one thing to do. Its command holds whole lines to paste; a word
// that begins with YOUR_ stands for something that the text explains.
type Step struct {
	Text    string
	Command string // "" when there is nothing to paste
	Of      string // the software that alone it is for, where it is not known which it is; "": it is for all
}

// For returns what closes the holes of a port, and at the end how to see that
// it worked. It is nil for a verdict that leaves nothing to close.
func For(j verdict.Judgement, target string) []Step {
	l, software := known(), Identify(j).Name
	var steps []Step
	switch {
	case j.Proof != nil && j.Proof.Kind == verdict.KindForward && j.Proof.Lost:
		steps = l.each(keyLost, "nginx", "haproxy")
	case j.Proof != nil && j.Proof.Kind == verdict.KindForward:
		steps = l.forward()
	case j.Proof != nil && lostClient(j.Proof):
		steps = l.lost(software)
	case j.Proof != nil:
		for _, hole := range holes(j) {
			steps = append(steps, l.closing(j, software, hole)...)
		}
	case j.Elsewhere != nil:
		steps = slices.Clone(l.closing(j, software, j.Elsewhere.Form.Hole))
	case j.Backscatter != nil:
		steps = slices.Clone(l.steps(software, "backscatter"))
	case j.Verdict == verdict.Accepts && j.CatchAll:
		steps = slices.Clone(l.steps(software, "catch-all"))
	default:
		return nil
	}
	if proxied(j) && j.Session.TLS != "" {
		steps = append(slices.Clone(l.steps(general, keyTLS)), steps...)
	}
	return finish(unique(steps), j, target)
}

// Hole returns what closes one hole of a port, whether it was proved or not.
func Hole(j verdict.Judgement, hole string) []Step {
	return finish(known().closing(j, Identify(j).Name, hole), j, "")
}

// closing returns what closes a hole of a port. SOCKS proxies show nothing by
// which they could be told, so of them, and of a web proxy that hides its
// name, each that is in use says how.
func (l library) closing(j verdict.Judgement, software, hole string) []Step {
	if software != general || !proxied(j) {
		return l.steps(software, hole)
	}
	if j.Door == door.SOCKS {
		return l.each(hole, "dante", "microsocks", "3proxy", "openssh")
	}
	return l.each(hole, "squid", "tinyproxy", "privoxy", "apache", "3proxy")
}

// VRFY, ETRN and Login return the step against what is no relay but should be
// mended: VRFY and ETRN for strangers, a login offered without TLS.
func VRFY(j verdict.Judgement) Step  { return first(j, keyVRFY) }
func ETRN(j verdict.Judgement) Step  { return first(j, keyETRN) }
func Login(j verdict.Judgement) Step { return first(j, keyLogin) }

func first(j verdict.Judgement, key string) Step {
	steps := finish(known().steps(Identify(j).Name, key), j, "")
	return steps[0]
}

// holes returns the holes that are proved, in the battery's order. Where the
// plainest form came through, every other came through the same hole.
func holes(j verdict.Judgement) []string {
	if hole := j.Proof.Form.Hole; hole == "relays-for-anyone" || hole == "open-proxy" {
		return []string{j.Proof.Form.Hole}
	}
	var all []string
	for _, f := range j.Forms {
		if f.State == verdict.Arrived && !slices.Contains(all, f.Form.Hole) {
			all = append(all, f.Form.Hole)
		}
	}
	return all
}

// lostClient reports whether the server saw us come from an address that is
// not ours, because something before it hides its clients' addresses.
func lostClient(p *verdict.Proof) bool {
	for _, n := range p.Notes {
		if strings.Contains(n, "lost its clients' addresses") {
			return true
		}
	}
	return false
}

// forward returns how to close a forwarded port: nothing that can be seen from
// outside tells which tool forwards it, so each says how to find its own rule.
func (l library) forward() []Step {
	return l.each(keyForward, "nftables", "docker", "haproxy", "nginx", "socat")
}

// lost returns how to keep the clients' addresses: as the software's own
// packaging has it, or as what usually hides them.
func (l library) lost(software string) []Step {
	if own := l.manuals[software].sections[keyLost]; len(own) > 0 {
		return own
	}
	return l.each(keyLost, "docker", "kubernetes")
}

// each puts the sections of the tools, marked with their titles, after the
// first of the general steps, which says what to look for.
func (l library) each(key string, tools ...string) []Step {
	common := l.manuals[general].sections[key]
	steps := []Step{common[0]}
	for _, name := range tools {
		m := l.manuals[name]
		for _, s := range m.sections[key] {
			steps = append(steps, Step{Text: s.Text, Command: s.Command, Of: m.title})
		}
	}
	return append(steps, common[1:]...)
}

func unique(steps []Step) []Step {
	var list []Step
	for _, s := range steps {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// finish fills in what is known of the server and adds how to see that the
// remedy worked.
func finish(steps []Step, j verdict.Judgement, target string) []Step {
	list := make([]Step, 0, len(steps)+1)
	for _, s := range steps {
		list = append(list, fill(s, j))
	}
	if target == "" {
		return list
	}
	return append(list, Step{Text: "See that it worked, then run the whole check once more:", Command: "postern check " + target + " --form " + witnesses(j)})
}

// witnesses returns one form for each hole that is to be closed, as --form
// takes them.
func witnesses(j verdict.Judgement) string {
	switch {
	case j.Proof != nil:
		var ids []string
		all := holes(j)
		for _, f := range j.Forms {
			if i := slices.Index(all, f.Form.Hole); i >= 0 && f.State == verdict.Arrived {
				ids = append(ids, f.Form.ID)
				all[i] = ""
			}
		}
		return strings.Join(ids, ",")
	case j.Elsewhere != nil:
		return j.Elsewhere.Form.ID
	case j.Backscatter != nil:
		return "dsn-reflect"
	}
	return "plain"
}

// fill puts the facts of a server in the place of {{domain}}, {{ip}}, {{port}}
// and {{egress}}. What a stranger could have chosen never gets into a line
// that is meant to be pasted: addresses cannot hold more than digits and
// colons, and a domain is used only when it is plain letters and digits.
func fill(s Step, j verdict.Judgement) Step {
	facts := map[string]string{"{{ip}}": "YOUR_ADDRESS", "{{port}}": "25", "{{egress}}": "YOUR_PROVIDERS_ADDRESS", "{{domain}}": "YOUR_DOMAIN"}
	if j.Addr.IsValid() {
		facts["{{ip}}"], facts["{{port}}"] = j.Addr.Addr().Unmap().WithZone("").String(), fmt.Sprint(j.Addr.Port())
	}
	if j.Proof != nil && j.Proof.Egress.IsValid() {
		facts["{{egress}}"] = j.Proof.Egress.WithZone("").String()
	}
	if d := ownDomain(j); d != "" {
		facts["{{domain}}"] = d
	} else if strings.Contains(s.Text+s.Command, "{{domain}}") {
		s.Text = strings.TrimSuffix(s.Text, ":") + " (YOUR_DOMAIN is each domain that you serve):"
	}
	for mark, value := range facts {
		s.Text, s.Command = strings.ReplaceAll(s.Text, mark, value), strings.ReplaceAll(s.Command, mark, value)
	}
	return s
}

// ownDomain returns the domain of the control recipient that the server took.
func ownDomain(j verdict.Judgement) string {
	for _, a := range j.Asked {
		_, domain, ok := strings.Cut(a.Recipient, "@")
		if ok && a.Control == verdict.KnownRecipient && a.Reply.Positive() && plainDomain(domain) {
			return domain
		}
	}
	return ""
}

func plainDomain(s string) bool {
	letter := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.'
	}
	return len(s) <= 253 && strings.Contains(s, ".") && !strings.ContainsFunc(s, func(r rune) bool { return !letter(r) }) && s[0] != '-'
}
