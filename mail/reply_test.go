package mail

import (
	"bytes"
	"testing"
)

func TestReplyOnTheWire(t *testing.T) {
	for _, c := range []struct {
		reply Reply
		want  string
	}{
		{NewReply(250, "2.0.0", "queued"), "250 2.0.0 queued\r\n"},
		{Reply{Code: 250, Lines: []string{"mx.example", "SIZE 1"}}, "250-mx.example\r\n250 SIZE 1\r\n"},
		{Reply{Code: 550, Enhanced: EnhancedCode{5, 7, 1}, Lines: []string{"a", "b"}}, "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
		{NewReply(250, "", "forged\r\n250 ok\x7f"), "250 forged??250 ok?\r\n"},
		{Reply{Code: 354}, "354 \r\n"},
	} {
		if got := c.reply.AppendWire(nil); !bytes.Equal(got, []byte(c.want)) {
			t.Errorf("%v: %q, want %q", c.reply, got, c.want)
		}
	}
}

func TestCutEnhancedCode(t *testing.T) {
	for _, c := range []struct{ text, code, rest string }{
		{"5.7.1 denied", "5.7.1", "denied"},
		{"2.1.5", "2.1.5", ""},
		{"1.2.3 no such class", "", "1.2.3 no such class"},
		{"5.7 short", "", "5.7 short"},
		{"5.7.1234 long", "", "5.7.1234 long"},
		{"192.0.2.1 is an address", "", "192.0.2.1 is an address"},
	} {
		e, rest, ok := CutEnhancedCode(c.text)
		if e.String() != c.code || rest != c.rest || ok != (c.code != "") {
			t.Errorf("CutEnhancedCode(%q) = %q, %q, %v; want %q, %q", c.text, e, rest, ok, c.code, c.rest)
		}
	}
}

// The law: an enhanced code that was read prints as it stood.
func FuzzEnhancedCode(f *testing.F) {
	for _, seed := range []string{"5.7.1 denied", "2.0.0", "4.007.1 x", "1.2.3", "5..1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, rest, ok := CutEnhancedCode(text)
		if !ok {
			if e != (EnhancedCode{}) || rest != text {
				t.Fatalf("CutEnhancedCode(%q) = %v, %q without success", text, e, rest)
			}
			return
		}
		again, _, ok := CutEnhancedCode(e.String() + " " + rest)
		if !ok || again != e {
			t.Fatalf("%q reads as %v, its text as %v", text, e, again)
		}
	})
}
