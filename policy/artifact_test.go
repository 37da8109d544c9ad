package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// verify is a second reader of a proof. It knows its JSON and nothing of the
// policy's code, and states anew, in the plainest words, what may be granted.
func verify(text []byte) error {
	var p struct {
		Listeners  []struct{ Name, Role string }
		Classes    []struct{ First, Last, Witness, Trusted string }
		Identities []struct {
			Name      string
			MaySendAs []string `json:"may_send_as"`
		}
		Trusted []struct {
			Name      string
			MaySendAs []string `json:"may_send_as"`
		}
		Senders    []string
		Recipients []struct{ Path, Kind string }
		Decisions  int
		Refused    map[string]int
		Granted    map[string]int
		Rows       []struct {
			Listener, Client, Identity, Sender, Granted string
			TLS, Suspended                              bool
		}
		Counterexamples []any
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if len(p.Counterexamples) > 0 {
		return fmt.Errorf("the proof itself is not closed")
	}
	trustedAt := map[string]string{}
	for _, family := range []string{"0.0.0.0", "::"} {
		start := netip.MustParseAddr(family)
		next := start
		for _, c := range p.Classes {
			first, last := netip.MustParseAddr(c.First), netip.MustParseAddr(c.Last)
			if first.Is4() != start.Is4() {
				continue
			}
			if first != next || last.Less(first) {
				return fmt.Errorf("class %s does not follow the one before", c.First)
			}
			if w := netip.MustParseAddr(c.Witness); w.Less(first) || last.Less(w) {
				return fmt.Errorf("%s is no witness of %s", c.Witness, c.First)
			}
			trustedAt[c.Witness] = c.Trusted
			next = last.Next()
		}
		if next.IsValid() {
			return fmt.Errorf("from %s on no class says anything", next)
		}
	}
	lists := map[string][]string{}
	for _, i := range p.Identities {
		lists["user "+i.Name] = i.MaySendAs
	}
	for _, i := range p.Trusted {
		lists["client "+i.Name] = i.MaySendAs
	}
	roles := map[string]string{}
	for _, l := range p.Listeners {
		roles[l.Name] = l.Role
	}
	may := func(list []string, sender string) bool {
		return slices.ContainsFunc(list, func(w string) bool {
			bare := strings.Trim(sender, "<>")
			return w == sender || sender != "<>" && (w == "*" || strings.EqualFold(w, bare) || strings.HasPrefix(w, "*@") && strings.HasSuffix(strings.ToLower(bare), strings.ToLower(w[1:])))
		})
	}
	granted, rows := 0, map[string]bool{}
	allowed := func(role, who string, list []string, sender, kind string) bool {
		switch role {
		case "mx":
			return kind == "known"
		case "submission", "submissions", "trusted":
			return who != "" && may(list, sender) && (kind == "known" || kind == "foreign")
		}
		return false
	}
	for _, r := range p.Rows {
		role := roles[r.Listener]
		who, list := "", []string(nil)
		switch {
		case strings.HasPrefix(role, "submission") && r.TLS:
			who, list = r.Identity, lists["user "+r.Identity]
		case role == "trusted" && !r.Suspended:
			who = trustedAt[r.Client]
			list = lists["client "+who]
		}
		if len(r.Granted) != len(p.Recipients) {
			return fmt.Errorf("a row of %d recipients, not %d", len(r.Granted), len(p.Recipients))
		}
		rows[fmt.Sprint(r.Listener, r.Client, r.TLS, r.Identity, r.Suspended, r.Sender)] = true
		for i, bit := range r.Granted {
			want := allowed(role, who, list, r.Sender, p.Recipients[i].Kind)
			if (bit == '1') != want {
				return fmt.Errorf("listener %s, client %s, sender %s, recipient %s: granted %c, may be %v", r.Listener, r.Client, r.Sender, p.Recipients[i].Path, bit, want)
			}
			if bit == '1' {
				granted++
			}
		}
	}
	need := func(l, client, identity string, tls bool, sender string) error {
		if rows[fmt.Sprint(l, client, tls, identity, false, sender)] {
			return nil
		}
		return fmt.Errorf("no row says what %s gets from %s (%q, TLS %v) on %s", sender, client, identity, tls, l)
	}
	for _, l := range p.Listeners { // whatever may be granted must stand in a row
		for _, c := range p.Classes {
			for _, sender := range p.Senders {
				var err error
				switch {
				case l.Role == "mx":
					err = need(l.Name, c.Witness, "", false, sender)
				case l.Role == "trusted" && c.Trusted != "" && may(lists["client "+c.Trusted], sender):
					err = need(l.Name, c.Witness, "", false, sender)
				}
				for _, i := range p.Identities {
					if strings.HasPrefix(l.Role, "submission") && may(i.MaySendAs, sender) && err == nil {
						err = need(l.Name, c.Witness, i.Name, true, sender)
					}
				}
				if err != nil {
					return err
				}
			}
		}
	}
	sum := 0
	for _, n := range p.Refused {
		sum += n
	}
	for _, n := range p.Granted {
		granted -= n
		sum += n
	}
	if sum != p.Decisions || granted != 0 {
		return fmt.Errorf("%d decisions, of which %d were told; %d grants too few", p.Decisions, sum, granted)
	}
	return nil
}

func TestProofIsVerifiedByAnother(t *testing.T) {
	p := compiled(t, sample())
	text, err := json.Marshal(p.Prove())
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(text); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(compiled(t, sample()).Prove())
	if err != nil || !bytes.Equal(text, again) {
		t.Error("two proofs of one configuration differ")
	}
	for _, c := range []struct {
		name   string
		tamper func(p *Proof)
	}{
		{"a grant more", func(p *Proof) { p.Rows[0].Granted = strings.Replace(p.Rows[0].Granted, "0", "1", 1) }},
		{"a grant less", func(p *Proof) { p.Rows[0].Granted = strings.Replace(p.Rows[0].Granted, "1", "0", 1) }},
		{"a class less", func(p *Proof) { p.Classes = p.Classes[1:] }},
		{"a class wider", func(p *Proof) { p.Classes[2].Last = netip.MustParseAddr("255.255.255.255") }},
		{"a row less", func(p *Proof) { p.Rows = p.Rows[1:] }},
		{"a right more", func(p *Proof) { p.Identities[0].MaySendAs = []string{"*"} }},
		{"a decision more", func(p *Proof) { p.Decisions++ }},
		{"a role changed", func(p *Proof) { p.Listeners[0].Role = "submission" }},
		{"a counterexample", func(p *Proof) { p.Counterexamples = []Counterexample{{}} }},
	} {
		forged := &Proof{}
		if err := json.Unmarshal(text, forged); err != nil {
			t.Fatal(err)
		}
		c.tamper(forged)
		again, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		if verify(again) == nil {
			t.Errorf("%s: the forged proof passes", c.name)
		}
	}
}
