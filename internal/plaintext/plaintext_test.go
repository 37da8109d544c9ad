package plaintext

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestMarksAtTheHead(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"none", "anna\nben\n", "anna\nben\n"},
		{"a mark", "\xef\xbb\xbfanna\r\nben", "anna\r\nben"},
		{"a mark alone", "\xef\xbb\xbf", ""},
		{"the half of a mark", "\xef\xbb", "\xef\xbb"},
		{"a mark further down", "anna\n\xef\xbb\xbfben", "anna\n\xef\xbb\xbfben"},
		{"nothing", "", ""},
		{"UTF-16", "\xff\xfea\x00", "UTF-16"},
		{"UTF-16, the other way", "\xfe\xff\x00a", "UTF-16"},
	} {
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := ReadFile(path)
		read, err2 := io.ReadAll(iotest.OneByteReader(Reader(strings.NewReader(c.text))))
		if c.want == "UTF-16" {
			if !errors.Is(err, errUTF16) || !errors.Is(err2, errUTF16) {
				t.Errorf("%s: %v, %v", c.name, err, err2)
			}
			continue
		}
		if string(text) != c.want || err != nil || string(read) != c.want || err2 != nil {
			t.Errorf("%s: %q, %v and %q, %v; want %q", c.name, text, err, read, err2, c.want)
		}
	}
}
