package doctor

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"postern/internal/machine"
	"postern/internal/peers"
)

// files is a disk: what is not in it is not there.
func files(set map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if text, ok := set[path]; ok {
			return []byte(text), nil
		}
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	}
}

// Real Postfix servers were made with these configurations, and the auditor
// measured which of them relay (docs/matrix.md). What is read from their text
// must agree.
func TestPostfixAgreesWithRealServers(t *testing.T) {
	for _, c := range peers.Cases {
		if c.Server != "postfix" {
			continue
		}
		t.Run(c.Config, func(t *testing.T) {
			set := map[string]string{}
			for name, text := range c.Files() {
				set["/"+name] = text
			}
			found, err := Postfix(t.Context(), Foreign{
				Dir: "/etc/postfix", Hostname: peers.Host, Read: files(set),
				Own: []machine.Interface{{Name: "eth0", Prefix: netip.PrefixFrom(netip.MustParseAddr(peers.Target4), 24)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				t.Logf("%s %s: %s; %s %v", f.Level, f.At, f.What, f.Do, f.Forms)
			}
			open := relaying(found)
			want := c.Want
			if c.Config == "six-only-over-four" {
				want = "open" // a text has no family: the hole is found whichever way it is measured
				c.Hole = "plain"
			}
			if want != "open" {
				if len(open) > 0 {
					t.Errorf("%s: %v would relay, but the server is measured %s", c.What, open, want)
				}
				return
			}
			for id := range strings.FieldsSeq(c.Hole) {
				if slices.Contains(open, id) {
					return
				}
			}
			t.Errorf("%s: found %v, and the server is measured open by one of %s", c.What, open, c.Hole)
		})
	}
}

// relaying are the forms of all problems.
func relaying(found []Finding) []string {
	var forms []string
	for _, f := range found {
		if f.Level == Problem {
			forms = append(forms, f.Forms...)
		}
	}
	return forms
}
