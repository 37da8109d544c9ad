package mail

import (
	"runtime"
	"strings"
	"testing"
)

// A stranger writes the field, as long as a header may be: twice the field is
// twice the work, whatever it is made of.
func TestParseAddressListIsLinear(t *testing.T) {
	folded := func(of string) string { return strings.Repeat(of, 900/len(of)) + " " }
	for _, c := range []struct{ name, head, unit, tail string }{
		{"dots", "", ".", "@example.org"},
		{"dots in folded lines", "", folded("."), "@example.org"},
		{"dots in folded lines, as a name", "", folded("."), "<a@example.org>"},
		{"dots with spaces", "", ". ", "@example.org"},
		{"dots in brackets", "<", ".", "@example.org>"},
		{"atoms with dots", "", "a.", "a@example.org"},
		{"atoms", "", "a ", "<a@example.org>"},
		{"one atom", "", "a", "@example.org"},
		{"quoted strings", "", `"a" `, "<a@example.org>"},
		{"empty quoted strings", "", `""`, "<a@example.org>"},
		{"one quoted string", `"`, "a", `" <a@example.org>`},
		{"quoted pairs", `"`, `\"`, `" <a@example.org>`},
		{"comments", "", "(a)", "a@example.org"},
		{"comments between dots", "", "(a).", "@example.org"},
		{"nested comments", "", "(", ""},
		{"one comment", "(", "a", ") a@example.org"},
		{"spaces", "", " ", "a@example.org"},
		{"encoded words", "", "=?utf-8?q?a?= ", "<a@example.org>"},
		{"octets that are no UTF-8", "\xff", "\xff", " <a@example.org>"},
		{"commas", "", ",", "a@example.org"},
		{"addresses", "", "a@example.org,", "a@example.org"},
		{"addresses with names", "", `"A" <a@example.org>, `, "a@example.org"},
		{"groups", "", "a:b@example.org;,", "a@example.org"},
		{"empty groups", "", "a:;,", "a@example.org"},
		{"a group never closed", "a:", "b@example.org,", ""},
		{"dots in a domain", "a@", ".", "org"},
		{"labels", "a@", "b.", "org"},
		{"labels with spaces", "a@", "b . ", "org"},
		{"one label", "a@", "b", ".org"},
		{"a literal", "a@[", "1", "]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			allocated := func(size int) int64 {
				field := c.head + strings.Repeat(c.unit, size/len(c.unit)) + c.tail
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _ = ParseAddressList(field) // what it costs matters here, not what it says
				runtime.ReadMemStats(&after)
				return int64(after.TotalAlloc - before.TotalAlloc)
			}
			once, twice := allocated(250_000), allocated(500_000)
			if twice > 3*once+1<<16 {
				t.Errorf("ParseAddressList(%q + many %q + %q) allocates %d octets for 250 KB and %d for 500 KB, want at most three times as many", c.head, c.unit, c.tail, once, twice)
			}
		})
	}
}
