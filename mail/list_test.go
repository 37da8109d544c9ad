package mail

import (
	netmail "net/mail"
	"slices"
	"strings"
	"testing"
)

func TestParseAddressList(t *testing.T) {
	for _, c := range []struct{ name, field, want string }{
		{"an address", "anna@example.org", "anna@example.org"},
		{"in brackets", "<anna@example.org>", "anna@example.org"},
		{"a display name", "Anna Lindqvist <anna@example.org>", "anna@example.org"},
		{"a dot in it", "Anna Q. Public <anna@example.org>", "anna@example.org"},
		{"quoted", `"Lindqvist, Anna <boss@far.example>" <anna@example.org>`, "anna@example.org"},
		{"quoted pairs", `"Anna \"\\ B" <anna@example.org>`, "anna@example.org"},
		{"a folded name", "\"Anna\t Lindqvist\"\t <anna@example.org>", "anna@example.org"},
		{"spaces in the brackets", "Anna < anna@example.org >", "anna@example.org"},
		{"spaces around the at sign", "anna @ example.org", "anna@example.org"},
		{"spaces around dots", "anna . b @ mail . example . org", "anna.b@mail.example.org"},
		{"words and quotes", `anna."b c".d@example.org`, `"anna.b c.d"@example.org`},
		{"a quoted local part", `"anna"@example.org`, "anna@example.org"},
		{"an at sign in it", `"anna@far.example"@example.org`, `"anna@far.example"@example.org`},
		{"two dots", "a..b@docomo.example", `"a..b"@docomo.example`},
		{"a literal", "anna@[192.0.2.1]", "anna@[192.0.2.1]"},
		{"an underscore and hyphens", "a@host_1.in--mail.example", "a@host_1.in--mail.example"},
		{"a dot at the end", "anna@example.org.", "anna@example.org"},
		{"U-labels", "Änna <änna@bücher.example>", "änna@bücher.example"},

		{"windows-1252", "=?windows-1252?Q?B=FCro?= <anna@example.org>", "anna@example.org"},
		{"iso-8859-15", "=?iso-8859-15?Q?B=FCro?= <anna@example.org>", "anna@example.org"},
		{"iso-2022-jp", "=?iso-2022-jp?B?GyRCO0NFRBsoQg==?= <anna@example.org>", "anna@example.org"},
		{"gb2312", "=?gb2312?B?1cXI/Q==?= <anna@example.org>", "anna@example.org"},
		{"a charset of nobody's", "=?x-unknown?Q?B=FCro?= =?x-unknown?b?AAAA?= <anna@example.org>", "anna@example.org"},
		{"a language (RFC 2231)", "=?utf-8*de?Q?B=C3=BCro?= <anna@example.org>", "anna@example.org"},
		{"a broken encoded word", "=?utf-8?Q?B=F?= =?x <anna@example.org>", "anna@example.org"},
		{"in a comment", "anna@example.org (=?windows-1252?Q?B=FCro?=)", "anna@example.org"},
		{"in quotes", `"=?koi8-r?B?4c7OwQ==?=" <anna@example.org>`, "anna@example.org"},
		{"latin-1 as it is", "B\xfcro \xfc <anna@example.org>", "anna@example.org"},
		{"latin-1 in quotes", "\"B\xfcro\xfc\" <anna@example.org>", "anna@example.org"},
		{"latin-1 in a comment", "anna@example.org (B\xfcro)", "anna@example.org"},

		{"comments around", "(The (very) boss, <x@y>) anna@example.org (at home \\) @)", "anna@example.org"},
		{"comments between", "anna(a)@(b)example(c).(d)org", "anna@example.org"},
		{"a comment in the name", "Anna (IT, anna@home.example) B <anna@example.org>", "anna@example.org"},
		{"two", "anna@example.org, Ben <ben@example.org>", "anna@example.org ben@example.org"},
		{"empty elements", ", anna@example.org,, ben@example.org ,", "anna@example.org ben@example.org"},
		{"a group", "Team: anna@example.org, Ben <ben@example.org>;", "anna@example.org ben@example.org"},
		{"groups and more", "A B: , anna@example.org;, x@far.example, C:; (none)", "anna@example.org x@far.example"},
		{"nobody", "undisclosed-recipients:;", ""},
		{"nothing", "", ""},
		{"a comment alone", "(nobody)", ""},
	} {
		got, err := ParseAddressList(c.field)
		if err != nil || joined(got) != c.want {
			t.Errorf("%s: %+q is %s, %v; want %s", c.name, c.field, joined(got), err, c.want)
		}
	}
}

// What two readers could read as two lists is refused.
func TestParseAddressListRefuses(t *testing.T) {
	for _, c := range []struct{ name, field string }{
		{"an address as display name", "anna@example.org <boss@example.org>"},
		{"an address as display name, mixed", "Anna anna@example.org <boss@example.org>"},
		{"an address behind the brackets", "<anna@example.org> boss@example.org"},
		{"two in brackets", "<anna@example.org> <boss@example.org>"},
		{"brackets in brackets", "<<anna@example.org>>"},
		{"two at signs", "anna@boss@example.org"},
		{"a comma in the name", "Lindqvist, Anna <anna@example.org>"},
		{"an encoded word with a comma", "=?utf-8?Q?Lindqvist,_Anna?= <anna@example.org>"},
		{"an encoded word with brackets", "=?utf-8?Q?<boss@example.org>?= <anna@example.org>"},
		{"an encoded word as local part", "=?utf-8?B?Ym9zcw==?=@example.org"},
		{"encoded words within a local part", "a=?utf-8?Q?=00?=b@example.org"},
		{"a comment that hides a domain", "anna(@far.example, x)@example.org"},
		{"a comment that hides the end", "<anna@example.org(>)>"},
		{"a comment within a domain that hides another", "anna@example(@far.example).org"},
		{"a comment without end", "anna@example.org (boss"},
		{"a quote without end", `"anna <anna@example.org>`},
		{"a bracket without end", "Anna <anna@example.org"},
		{"a bracket without beginning", "anna@example.org>"},
		{"a bracket in the name", "Anna [IT] <anna@example.org>"},
		{"a source route", "<@far.example:anna@example.org>"},
		{"empty brackets", "Anna <>"},
		{"no domain", "anna"},
		{"no domain, in brackets", "Anna <anna>"},
		{"no local part", "@example.org"},
		{"two words as local part", "anna lindqvist@example.org"},
		{"two quoted words as local part", `"anna""b"@example.org`},
		{"a group in a group", "A: B: anna@example.org;;"},
		{"a group without end", "A: anna@example.org"},
		{"a group without name", ": anna@example.org;"},
		{"the end of a group without one", "anna@example.org; boss@example.org"},
		{"no domain name", "anna@-example.org"},
		{"a full-width at sign", "anna\uff20example.org"},
		{"control characters", "Anna\x00 <anna@example.org>"},
		{"an escape sequence", "\x1b$B;CED\x1b(B <anna@example.org>"},
		{"a CR", "Anna\r<anna@example.org>"},
		{"a charset in which a backslash is the half of a letter", "\"\x83\\\" <boss@example.org>, \" <anna@example.org>"},
		{"a local part that is no UTF-8", "\xfcnna@example.org"},
		{"an address longer than a path", strings.Repeat("a", 250) + "@example.org"},
	} {
		if got, err := ParseAddressList(c.field); err == nil {
			t.Errorf("%s: %+q is %s", c.name, c.field, joined(got))
		}
	}
}

func joined(list []Address) string {
	var s []string
	for _, a := range list {
		s = append(s, a.String())
	}
	return strings.Join(s, " ")
}

// The laws: what was read reads as the same again, no at sign outside of
// quotes and comments is passed over, and where the standard library reads
// addresses too, they are the same.
func FuzzParseAddressList(f *testing.F) {
	for _, seed := range []string{
		"anna@example.org", "Anna <anna@example.org>, B: c@d.example, <e@f.example>;", `"a\" <b@c.example>" <d@e.example>`,
		"(a(b)@c) d@e.example (f", "=?utf-8?Q?a?= <b@c.example>", "a . b @ c . d", "\"\x83\\\" <a@b.example>, \" <c@d.example>",
		"anna(@far.example)@example.org", "<a@b.example> c@d.example", "a@[192.0.2.1], b@c.example.", "a@b(c).d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseAddressList(s)
		if err != nil {
			return
		}
		var again []string
		for _, a := range list {
			again = append(again, a.String())
			if strings.ContainsAny(a.String(), "\r\n\x00") {
				t.Fatalf("%q holds %q", s, a)
			}
		}
		if same, err := ParseAddressList(strings.Join(again, ", ")); err != nil || !slices.Equal(list, same) {
			t.Fatalf("%q is %q, and that is %q, %v", s, list, same, err)
		}
		if n := atSigns(s); n != len(list) {
			t.Fatalf("%q has %d at signs and %d addresses: %q", s, n, len(list), list)
		}
		theirs, err := netmail.ParseAddressList(s)
		if err != nil {
			return
		}
		if len(theirs) != len(list) {
			t.Fatalf("%q is %q, and elsewhere %q", s, list, theirs)
		}
		for i, a := range list {
			if at := strings.LastIndexByte(theirs[i].Address, '@'); theirs[i].Address[:at] != a.Local() {
				t.Fatalf("%q is %q, and elsewhere %q", s, list, theirs)
			}
		}
	})
}

// atSigns counts those outside of quotes and comments.
func atSigns(s string) (n int) {
	quoted, depth := false, 0
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '\\' && (quoted || depth > 0):
			i++
		case b == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case b == '(':
			depth++
		case b == ')' && depth > 0:
			depth--
		case b == '@' && depth == 0:
			n++
		}
	}
	return n
}
