package smtp

import (
	"fmt"
	"strings"
	"testing"
)

// An automaton is what RFC 5321 section 4.1.4 and RFC 3030 say about the order
// of commands, written a second time and as plainly as can be. The engine must
// agree with it on every sequence of words.
type automaton struct {
	greeted, open, chunks, gone bool
	rcpts                       int
	text                        string
	mails                       []string
}

func (a *automaton) end() { a.open, a.chunks, a.rcpts, a.text = false, false, 0, "" }

// words are the alphabet; a body follows DATA only where 354 is due.
var words = map[byte]string{
	'E': "EHLO c.example\r\n", 'H': "HELO c.example\r\n",
	'M': "MAIL FROM:<a@b.example>\r\n", 'B': "MAIL FROM:<a b>\r\n",
	'R': "RCPT TO:<c@d.example>\r\n", 'N': "RCPT TO:<no@d.example>\r\n",
	'D': "DATA\r\n", 'C': "BDAT ", 'L': "BDAT ",
	'S': "RSET\r\n", 'O': "NOOP\r\n", 'J': "JUNK\r\n", 'Q': "QUIT\r\n",
}

const alphabet = "EHMBRNDCLSOJQ"

// step returns what the client sends for one word with this text, and the
// codes that answer it.
func (a *automaton) step(w byte, text string) (sent, codes string) {
	if a.gone {
		return "", ""
	}
	sent = words[w]
	midChunks := a.chunks
	if midChunks && !strings.ContainsRune("CLO", rune(w)) {
		a.end() // anything else gives the message up
	}
	switch w {
	case 'E', 'H':
		a.end()
		a.greeted = true
		return sent, "250"
	case 'M', 'B':
		switch {
		case midChunks, !a.greeted, a.open:
			return sent, "503"
		case w == 'B':
			return sent, "501"
		}
		a.open = true
		return sent, "250"
	case 'R', 'N':
		switch {
		case !a.open:
			return sent, "503"
		case w == 'N':
			return sent, "550"
		}
		a.rcpts++
		return sent, "250"
	case 'D':
		if !a.open || a.rcpts == 0 {
			return sent, "503"
		}
		a.mails = append(a.mails, text)
		a.end()
		return sent + stuff(text) + ".\r\n", "354 250"
	case 'C', 'L':
		sent = fmt.Sprintf("BDAT %d", len(text))
		if w == 'L' {
			sent += " LAST"
		}
		sent += "\r\n" + text
		if !a.open || a.rcpts == 0 {
			return sent, "503"
		}
		a.chunks = true
		a.text += text
		if w == 'L' {
			a.mails = append(a.mails, a.text)
			a.end()
		}
		return sent, "250"
	case 'S':
		a.end()
		return sent, "250"
	case 'O':
		return sent, "250"
	case 'Q':
		a.gone = true
		return sent, "221"
	}
	return sent, "500"
}

// stuff doubles the dots of a text whose lines all end in CRLF.
func stuff(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line[0] == '.' {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	return b.String()
}

// agree plays the words and holds the engine to the automaton.
func agree(t testing.TB, sequence string, step int, text func(i int) string) {
	t.Helper()
	a := &automaton{}
	input, want := "", "220"
	for i := range len(sequence) {
		sent, codes := a.step(sequence[i], text(i))
		input += sent
		if codes != "" {
			want += " " + codes
		}
	}
	s := &sink{}
	srv := serverFor(s)
	srv.Limits = Limits{Errors: -1, Messages: -1, Recipients: -1}
	got, _ := play(srv, step, input)
	if codesOf(got) != want {
		t.Fatalf("%s, %d octets at a time:\n%q\ngot  %s\nwant %s", sequence, step, input, codesOf(got), want)
	}
	if fmt.Sprintf("%q", s.whole()) != fmt.Sprintf("%q", a.mails) {
		t.Fatalf("%s: %q\ntook %q\nwant %q", sequence, input, s.whole(), a.mails)
	}
	if len(s.ended) != 1 || (s.ended[0] == nil) != a.gone {
		t.Fatalf("%s: Close was called with %v", sequence, s.ended)
	}
}

func TestEverySequenceOfFourWords(t *testing.T) {
	var sequence func(prefix string, n int)
	sequence = func(prefix string, n int) {
		if n == 0 {
			agree(t, prefix, 0, func(int) string { return ".QUIT\r\n" })
			return
		}
		for i := range len(alphabet) {
			sequence(prefix+alphabet[i:i+1], n-1)
		}
	}
	sequence("", 4)
	// And what follows the common beginnings: messages, chunks, both twice.
	for _, prefix := range []string{"EMR", "EMRC", "EMRD", "EMRL", "EMRCC", "EMNR", "HMRDM"} {
		sequence(prefix, 3)
	}
}

// FuzzWords holds the engine to the automaton on long sequences, with texts
// full of commands, dots and line ends, in any cut.
func FuzzWords(f *testing.F) {
	f.Add("EMRDMRD", "hello\n.\n..\nQUIT\nRSET", uint8(3))
	f.Add("EMRCCLMRCSMRL", ".\n\n.\nMAIL FROM:<>", uint8(1))
	f.Add("EMRCDEMRCMQ", "BDAT 5 LAST\n12345", uint8(0))
	f.Fuzz(func(t *testing.T, sequence, raw string, step uint8) {
		if len(sequence) > 60 || len(raw) > 10000 {
			return
		}
		known := strings.Map(func(r rune) rune { return rune(alphabet[int(r)%len(alphabet)]) }, sequence)
		if strings.Trim(sequence, alphabet) == "" {
			known = sequence
		}
		// What ends a session by itself, a bare CR and a NUL, has tests of its own.
		lines := strings.SplitAfter(strings.NewReplacer("\r", "", "\x00", "", "\n", "\r\n").Replace(raw), "\r\n")
		agree(t, known, int(step), func(i int) string {
			var b strings.Builder
			for j := range i % 4 {
				line := strings.TrimSuffix(lines[(i+j)%len(lines)], "\r\n")
				b.WriteString(line[:min(len(line), 998)] + "\r\n")
			}
			return b.String()
		})
	})
}

// findMessage looks, by the plainest reading of RFC 5321 section 4.5.2, for a
// place behind a line end where this message and its end stand, and returns
// what follows.
func findMessage(stream, body string) (rest string, found bool) {
	for {
		_, text, more := strings.Cut(stream, "\r\n")
		if !more {
			return "", false
		}
		stream = text
		wire, after, ended := strings.Cut("\r\n"+text, "\r\n.\r\n")
		if !ended {
			return "", false
		}
		if strings.ReplaceAll(wire+"\r\n", "\r\n.", "\r\n") == "\r\n"+body {
			return after, true
		}
	}
}

// FuzzStream sends any octets at all behind DATA and holds what was taken to
// what was sent: the message and its end stand there to the letter, so that
// nothing cut off is taken and nothing is taken twice.
func FuzzStream(f *testing.F) {
	f.Add("DATA\r\nhello\r\n.\r\n", uint8(1))
	f.Add("DATA\r\nhello\r\n.\r\n"+begin+"DATA\r\nx\n.\nMAIL FROM:<x@y.example>\r\n.\r\nQUIT\r\n", uint8(0))
	f.Add("DATA\r\n.\r.\r\n..\r\n\r.\n\r\n.\r\n", uint8(2))
	f.Add("DATA\r\n"+strings.Repeat("x", 5000)+"\r\n.\r\n", uint8(0))
	f.Fuzz(func(t *testing.T, stream string, step uint8) {
		s := &sink{}
		srv := serverFor(s)
		srv.Without = []string{"CHUNKING"}
		srv.Limits = Limits{Errors: -1}
		out, _ := play(srv, int(step), begin+stream)
		rest := begin + stream
		for _, body := range s.whole() {
			after, found := findMessage(rest, body)
			if !found {
				t.Fatalf("took %q, which %q does not hold\n%s", body, rest, out)
			}
			rest = after
			for line := range strings.Lines(body) {
				if !strings.HasSuffix(line, "\r\n") || strings.Count(line, "\r") != 1 || len(line) > 1000 {
					t.Fatalf("took the line %q", line)
				}
			}
		}
	})
}
