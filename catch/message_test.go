package catch

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func shown(raw string) Shown {
	return newMessage("00000001", time.Time{}, "", nil, []byte(strings.ReplaceAll(raw, "\n", "\r\n"))).show()
}

func TestShow(t *testing.T) {
	for _, c := range []struct {
		name, raw   string
		text, html  string
		attachments []Attachment
		problems    []string
	}{
		{name: "plain", raw: "Subject: a\n\nhello\n", text: "hello\r\n"},
		{name: "no header", raw: "\nhello\n", text: "hello\r\n"},
		{name: "nothing", raw: ""},
		{name: "no body", raw: "Subject: a\n"},
		{name: "Latin 1", raw: "Content-Type: text/plain; charset=iso-8859-1\n\nGr\xfc\xdfe\n", text: "Grüße\r\n"},
		{name: "Windows", raw: "Content-Type: text/plain; charset=windows-1252\n\n\x8010\n", text: "€10\r\n"},
		{name: "no UTF-8", raw: "Content-Type: text/plain; charset=utf-8\n\n\xff\n", text: "�\r\n"},
		{name: "quoted-printable", raw: "Content-Transfer-Encoding: quoted-printable\n\na=3Db=\nc\n", text: "a=bc\r\n"},
		{name: "base64", raw: "Content-Transfer-Encoding: base64\n\naGVs\nbG8=\n", text: "hello"},
		{name: "base64 that is none", raw: "Content-Transfer-Encoding: base64\n\naGVs!!!!\n", text: "hel", problems: []string{"a part does not decode: illegal base64 data at input byte 4"}},
		{name: "HTML", raw: "Content-Type: text/html\n\n<b>x</b>\n", html: "<b>x</b>\r\n"},
		{name: "both, and a file", raw: `Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=a

--a

text
--a
Content-Type: text/html

<p>text
--a--
--m
Content-Type: application/pdf
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="=?utf-8?q?Rechnung_=E2=82=AC.pdf?="

AAAA
--m--
`, text: "text", html: "<p>text", attachments: []Attachment{{"Rechnung €.pdf", "application/pdf", 3}}},
		{name: "text with a name", raw: "Content-Type: text/plain; name=a.txt\n\nx\n", attachments: []Attachment{{"a.txt", "text/plain", 3}}},
		{name: "a type that is none", raw: "Content-Type: ;;\n\nx\n", text: "x\r\n", problems: []string{"a Content-Type cannot be read: ;;"}},
		{name: "a multipart without end", raw: "Content-Type: multipart/mixed; boundary=m\n\n--m\n\nx\n", text: "x", problems: []string{"a part ends early: unexpected EOF"}},
		{name: "a multipart without boundary", raw: "Content-Type: multipart/mixed\n\nx\n", attachments: []Attachment{{"", "multipart/mixed", 3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shown(c.raw)
			if s.Text != c.text || s.HTML != c.html || !reflect.DeepEqual(s.Attachments, c.attachments) || !reflect.DeepEqual(s.Problems, c.problems) {
				t.Errorf("%q\ngot text %q html %q attachments %v problems %q\nwant     %q      %q             %v          %q", c.raw, s.Text, s.HTML, s.Attachments, s.Problems, c.text, c.html, c.attachments, c.problems)
			}
		})
	}
}

func TestDeepAndWideIsBounded(t *testing.T) {
	deep := strings.Builder{}
	for i := range 100 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	wide := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 1000)
	for name, raw := range map[string]string{"deep": deep.String(), "wide": wide} {
		s := shown(raw)
		if !strings.Contains(strings.Join(s.Problems, "\n"), "there are more parts than are shown") || len(s.Text) > mostParts {
			t.Errorf("%s: %d octets of text, problems %q", name, len(s.Text), s.Problems)
		}
	}
	if s := shown(strings.Repeat("A: b\n", 10*mostFields) + "\n"); len(s.Header) != mostFields {
		t.Errorf("%d fields", len(s.Header))
	}
}

// FuzzShow holds two laws: whatever comes, what is shown is valid UTF-8 and
// not much more than came; and a text that was put into a message well is
// the text that is shown.
func FuzzShow(f *testing.F) {
	f.Add([]byte("Subject: =?utf-8?q?a?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"))
	f.Add([]byte("Content-Transfer-Encoding: base64\r\n\r\naGVs"))
	f.Add([]byte("Content-Type: text/plain; charset=windows-1252\n\n\x80"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newMessage("1", time.Time{}, "", nil, in).show()
		total := 0
		for _, text := range append([]string{s.Subject, s.Text, s.HTML}, s.Problems...) {
			total += len(text)
			if !utf8.ValidString(text) {
				t.Errorf("%q is no UTF-8", text)
			}
		}
		if total > 10*len(in)+1000 {
			t.Errorf("%d octets were made of %d", total, len(in))
		}
		want := strings.ToValidUTF8(string(in), "")
		if got := newMessage("1", time.Time{}, "", nil, composed(t, want)).show(); got.Text != want || got.HTML != want || len(got.Problems) > 0 {
			t.Errorf("in: %q\ntext %q\nhtml %q\n%q", want, got.Text, got.HTML, got.Problems)
		}
	})
}

// composed is a message with a text, once in each encoding.
func composed(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=%s\r\n\r\n", w.Boundary())
	plain := must(w.CreatePart(textproto.MIMEHeader{"Content-Type": {"text/plain; charset=utf-8"}, "Content-Transfer-Encoding": {"base64"}}))
	fmt.Fprint(plain, base64.StdEncoding.EncodeToString([]byte(text)))
	html := must(w.CreatePart(textproto.MIMEHeader{"Content-Type": {"text/html"}, "Content-Transfer-Encoding": {"quoted-printable"}}))
	q := quotedprintable.NewWriter(html)
	q.Binary = true
	fmt.Fprint(q, text)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
