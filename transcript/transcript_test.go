package transcript

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// record plays lines of "> what was sent" and "< what was received"; \r, \n
// and \x.. stand for themselves, and nothing is added.
func record(t *Transcript, script ...string) *Transcript {
	for i, line := range script {
		at := noon.Add(time.Duration(i) * time.Second)
		switch line[0] {
		case '>':
			t.Add(at, Sent, []byte(line[2:]))
		case '<':
			t.Add(at, Received, []byte(line[2:]))
		default:
			t.Note(at, line)
		}
	}
	return t
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []string
		want   string
	}{
		{"a dialogue", []string{"< 220 mx\r\n", "> EHLO c\r\n", "< 250-mx\r\n250 HELP\r\n", "closed"}, "<-  220 mx\n -> EHLO c\n<-  250-mx\n<-  250 HELP\n*** closed\n"},
		{"a reply in two segments", []string{"< 25", "< 0 ok\r\n"}, "<-  25\\c\n<-  0 ok\n"},
		{"line ends that are none", []string{"> a\nb\rc\r\n\r\n"}, " -> a\\n\n -> b\\rc\n -> \n"},
		{"a terminal's worst", []string{"< \x1b[2J\a\x00\x7f\\ \t\r\n"}, "<-  \\x1b[2J\\x07\\x00\\x7f\\\\ \\t\n"},
		{"text that turns round, and bytes that are no text", []string{"< ä\u202e\xff\u200b\r\n"}, "<-  ä\\u{202e}\\xff\\u{200b}\n"},
	} {
		if got := record(&Transcript{}, c.script...).String(); got != c.want {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.want)
		}
	}
	var tr Transcript
	tr.Add(noon, Sent, []byte("STARTTLS\r\n"))
	tr.StartTLS(noon, "TLS 1.3")
	record(&tr, "> EHLO c\r\n", "< 250 ok\r\n")
	if want := " -> STARTTLS\n*** TLS 1.3\n ~> EHLO c\n<~  250 ok\n"; tr.String() != want {
		t.Errorf("inside TLS:\n%s", tr.String())
	}
	var mixed Transcript // what has no lines leaves the watch at the beginning of one
	mixed.Frame(noon, Sent, []byte("\x05\x01\x00"))
	record(&mixed, "> AUTH PLAIN AGEAYg==\r\n")
	if want := " -> \\x05\\x01\\x00\\c\n -> AUTH PLAIN (hidden)\n"; mixed.String() != want {
		t.Errorf("behind a frame:\n%s", mixed.String())
	}
	var none *Transcript
	none.Frame(noon, Sent, []byte("x"))
	record(none, "> x\r\n")
	none.StartTLS(noon, "x")
	if none.String() != "" || none.Entries() != nil || none.Dropped() != 0 {
		t.Error("a nil transcript recorded something")
	}
}

// TestCredentialsAreHidden plays logins in each cut, from both ends of the
// wire: the secret must never be kept, and the rest must.
func TestCredentialsAreHidden(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []string
		kept   string // must stand in the text
	}{
		{"PLAIN", []string{"> AUTH PLAIN SECRET==\r\n", "< 235 ok\r\n", "> MAIL FROM:<>\r\n"}, "MAIL FROM:<>"},
		{"in any case, with spaces", []string{"> aUTH   plain   SECRET==\r\n", "< 235 ok\r\n", "> NOOP 1\r\n"}, "NOOP 1"},
		{"PLAIN in two steps", []string{"> AUTH PLAIN\r\n", "< 334 \r\n", "> SECRET\r\n", "< 535 no\r\n", "> NOOP 1\r\n"}, "NOOP 1"},
		{"LOGIN", []string{"> AUTH LOGIN\r\n", "< 334 VXNlcg==\r\n", "> SECRET\r\n", "< 334 UGFzcw==\r\n", "> SECRET\r\n", "< 235 ok\r\n", "> NOOP 1\r\n"}, "NOOP 1"},
		{"LOGIN, not waiting", []string{"> EHLO c\r\nAUTH LOGIN\r\nSECRET\r\nSECRET\r\n", "< 250-x\r\n250 ok\r\n334 VXNlcg==\r\n334 x\r\n", "> SECRET\r\n", "< 235 ok\r\n", "> NOOP 1\r\n"}, "NOOP 1"},
		{"a reply in pieces", []string{"> AUTH LOGIN\r\n", "< 3", "< 34 x\r\n", "> SECRET\r\n", "< 2", "< 35 ok\r\n", "> NOOP 1\r\n"}, "NOOP 1"},
		{"behind a bare CR", []string{"> AUTH PLAIN\rSECRET\r\n", "> AUTH PLAIN x\rSECRET\r\n"}, "AUTH"},
		{"behind a bare LF", []string{"> AUTH PLAIN\nSECRET\n", "< 235 ok\r\n"}, "AUTH PLAIN"},
		{"a tab", []string{"> AUTH\tPLAIN\tSECRET\r\n"}, "PLAIN"},
	} {
		for _, mirrored := range []bool{false, true} {
			for _, step := range []int{1, 2, 5, 1000} {
				var tr Transcript
				for _, line := range c.script {
					dir := Sent
					if (line[0] == '<') != mirrored {
						dir = Received
					}
					for rest := []byte(line[2:]); len(rest) > 0; {
						n := min(step, len(rest))
						tr.Add(noon, dir, rest[:n])
						rest = rest[n:]
					}
				}
				var all bytes.Buffer
				for _, e := range tr.Entries() {
					all.Write(e.Bytes)
				}
				js, err := json.Marshal(&tr)
				if err != nil {
					t.Fatal(err)
				}
				for _, leak := range []string{all.String(), string(js)} {
					if strings.Contains(leak, "SECRET") || strings.Contains(leak, "ECRE") {
						t.Errorf("%s, mirrored %v, %d at a time: %q", c.name, mirrored, step, leak)
					}
				}
				if !strings.Contains(all.String(), c.kept) {
					t.Errorf("%s, mirrored %v, %d at a time: %q is missing in %q", c.name, mirrored, step, c.kept, all.String())
				}
			}
		}
	}
}

func TestProseAboutLoginsIsKept(t *testing.T) {
	tr := record(&Transcript{}, "> DATA\r\n", "< 354 go\r\n", "> Authors write books about it.\r\nauth is a word of five that lasts\r\nand this follows\r\n.\r\n")
	if text := tr.String(); !strings.Contains(text, "and this follows") || !strings.Contains(text, "Authors write books") {
		t.Errorf("%s", text)
	}
}

func TestBounds(t *testing.T) {
	tr := New(1000)
	tr.Add(noon, Sent, bytes.Repeat([]byte("x"), 600))
	tr.Add(noon, Received, bytes.Repeat([]byte("y"), 600))
	tr.Add(noon, Sent, []byte("z"))
	kept := 0
	for _, e := range tr.Entries() {
		kept += len(e.Bytes)
	}
	if kept+int(tr.Dropped()) != 1201 || kept > 1000 {
		t.Errorf("kept %d, dropped %d of 1201", kept, tr.Dropped())
	}
	if !strings.HasSuffix(tr.String(), fmt.Sprintf("*** %d more bytes were not kept\n", tr.Dropped())) {
		t.Error("the text does not say that something is missing")
	}
	drip := New(10000)
	for range 100000 {
		drip.Add(noon, Received, []byte("x"))
	}
	if n := len(drip.Entries()); n > 10000/entryCost {
		t.Errorf("%d entries of one byte", n)
	}
}

// FuzzJSON holds the JSON form to the law that nothing is lost in it.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("220 mx\r\n"), []byte("EHLO \xff\x00\r\n"), true)
	f.Fuzz(func(t *testing.T, a, b []byte, tls bool) {
		var in, out Transcript
		in.Add(noon, Received, a)
		if tls {
			in.StartTLS(noon, "TLS")
		}
		in.Add(noon.Add(time.Second), Sent, b)
		js, err := json.Marshal(&in)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(js, &out); err != nil {
			t.Fatal(err)
		}
		if in.String() != out.String() || in.Dropped() != out.Dropped() {
			t.Fatalf("%s\nbecame\n%s\nby %s", in.String(), out.String(), js)
		}
		again, err := json.Marshal(&out)
		if err != nil || !bytes.Equal(js, again) {
			t.Fatalf("%s\nbecame\n%s", js, again)
		}
		for line := range strings.Lines(in.String()) {
			if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\r\x1b\x00\t") {
				t.Fatalf("a control character in %q", line)
			}
		}
	})
}
