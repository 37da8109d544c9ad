package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"postern/check"
	"postern/verdict"
)

// live shows what a running check does: on a terminal one line that changes,
// elsewhere nothing but what it waits for, and a line for each target of many.
type live struct {
	w        io.Writer
	terminal *os.File // w, when it is one
	quiet    bool

	mu    sync.Mutex
	last  time.Time
	shown bool
	ports map[netip.AddrPort]check.Event
}

func newLive(w io.Writer, quiet bool) *live {
	l := &live{w: w, quiet: quiet, ports: map[netip.AddrPort]check.Event{}}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		l.terminal = f
	}
	return l
}

// redraw is how often the line changes at most.
const redraw = 100 * time.Millisecond

func (l *live) event(e check.Event) {
	if l.quiet {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Step == check.Judged {
		delete(l.ports, e.Addr)
		return
	}
	if l.terminal == nil {
		if e.Step == check.Pausing || e.Step == check.Waiting && l.ports[e.Addr].Step != check.Waiting {
			fmt.Fprintf(l.w, "%s  %s\n", e.Addr, printable(e.Text))
		}
		l.ports[e.Addr] = e
		return
	}
	if e.Done == 0 {
		e.Done = l.ports[e.Addr].Done
	}
	l.ports[e.Addr] = e
	if now := time.Now(); now.Sub(l.last) >= redraw || e.Step != check.Playing {
		l.last = now
		l.draw(e)
	}
}

// draw rewrites the line: a bar with the share of the battery, and what is
// tried or waited for.
func (l *live) draw(e check.Event) {
	width, _, err := term.GetSize(int(l.terminal.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	const bar = 12
	full := 0
	if e.Total > 0 {
		full = min(bar, e.Done*bar/e.Total)
	}
	text := string(e.Step)
	switch e.Step {
	case check.Playing:
		text = e.Form
		if e.State == verdict.Taken {
			text += "  taken"
		}
	case check.Pausing, check.Waiting:
		text = printable(e.Text)
	case check.Connecting, check.Judged:
	}
	line := fmt.Sprintf("%s [%s%s] %s", e.Addr, strings.Repeat("#", full), strings.Repeat(".", bar-full), text)
	if r := []rune(line); len(r) > width-1 {
		line = string(r[:width-1])
	}
	fmt.Fprintf(l.w, "\r\x1b[K%s", line)
	l.shown = true
}

// say shows a line on a terminal, in place of the one before.
func (l *live) say(text string) {
	if l.terminal == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	width, _, err := term.GetSize(int(l.terminal.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	if r := []rune(text); len(r) > width-1 {
		text = string(r[:width-1])
	}
	fmt.Fprintf(l.w, "\r\x1b[K%s", text)
	l.shown = true
}

// finished is told of each target of many.
func (l *live) finished(n, of int) {
	if l.quiet || of < 2 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	fmt.Fprintf(l.w, "target %d of %d done\n", n, of)
}

// above prints text where the line stood; the next event draws it again.
func (l *live) above(w io.Writer, text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	_, err := w.Write(text)
	return err
}

// end takes the line away.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

func (l *live) clear() {
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.shown = false
	}
}

// printable makes visible what in a server's text would do something to a
// terminal: control characters, and those that turn the writing round.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, "\\x%02x", s[i])
		case r < 0xa0 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, "\\x%02x", r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, "\\u{%x}", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
