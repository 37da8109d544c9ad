package guard

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"postern/mail"
)

// What is read as a header and its fields is, to the octet, what was sent.
func FuzzHeader(f *testing.F) {
	for _, seed := range []string{
		"From: a@b.example\r\nSubject: x\r\n\r\nbody\r\n", "Subject: a\r\n b\r\n\tc\r\n\r\n", "no header\r\n", "X: y", "X: y\r\n", "\r\nbody", " folded first\r\n\r\n", ": no name\r\n", "A:\r\n\r\n",
		"From anna Mon Nov 30 10:00:00 2026\r\nA: b\r\n\r\n", "\xef\xbb\xbfA: b\r\n\r\n", "From here on\r\nwe go\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r", ""), "\n", "\r\n") // the engine hands over no other line ends
		header, rest, err := cutHeader(strings.NewReader(text), 1<<16, func() bool { return true })
		if err != nil {
			return
		}
		after, err := io.ReadAll(rest)
		if err != nil {
			t.Fatal(err)
		}
		text = string(mail.CutMailboxLine([]byte(text)))
		whole := string(header) + string(after)
		if whole != text && string(header)+"\r\n"+string(after) != text && strings.TrimSuffix(string(header), "\r\n") != text {
			t.Errorf("%q was read as %q and %q", text, header, after)
		}
		var joined []byte
		for _, each := range fields(header) {
			joined = append(joined, each.raw...)
			if each.name() == "" {
				t.Errorf("%q has a field without a name: %q", header, each.raw)
			}
		}
		if !bytes.Equal(joined, header) {
			t.Errorf("%q has the fields %q", header, joined)
		}
	})
}
