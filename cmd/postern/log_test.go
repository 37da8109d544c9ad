package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A reader of the log that goes, or reads no more, neither ends the relay nor
// stops its mail nor keeps it from ending; whoever asks is told.
func TestLogReader(t *testing.T) {
	for _, c := range []struct {
		name string
		gone bool
		ails string
	}{
		{"gone", true, "the reader of the log is gone; lines lost: "},
		{"asleep", false, "the reader of the log has been asleep for "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := loopbackFolder(t)
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			p := launchWith(t, dir, nil, func(p *process) { p.cmd.Stderr = write })
			write.Close()
			p.hears("READY=1")
			if c.gone {
				read.Close()
			}
			talk := func() {
				client := p.dial()
				client.hears("220")
				client.say("EHLO client.example", "250")
				client.say("MAIL FROM:<a@far.example>", "250")
				client.say("RCPT TO:<b@"+strings.Repeat("elsewhere.", 20)+"example>", "550")
				client.say("QUIT", "221")
			}
			for range 300 { // more than a pipe holds, and so the log is stuck
				talk()
			}
			for p.status().Ails == "" { // five seconds later
				talk()
			}
			if got := p.status().Ails; !strings.HasPrefix(got, c.ails) {
				t.Errorf("it says %q, want %q", got, c.ails)
			}
			p.signal(syscall.SIGTERM)
			if code := p.ends(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// loopbackFolder has a configuration with one listener and no limits that this
// test would meet.
func loopbackFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := `hostname = "mx.example.org"
listener "mx" {
  port      = 0
  addresses = ["127.0.0.1"]
}
domain "example.org" {
  deliver    = "hold"
  recipients = ["anna"]
}
limits {
  greet_pause         = "0s"
  new_connections     = "100000/m"
  stranger_messages   = "100000/m"
  stranger_recipients = "100000/m"
}
`
	if err := os.WriteFile(filepath.Join(dir, "postern.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
