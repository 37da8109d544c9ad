package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/collect"
	"postern/internal/resolve/dnstest"
	"postern/verdict"
)

// A screen is what a command prints to, read while it runs.
type screen struct {
	mu    sync.Mutex
	text  bytes.Buffer
	fresh chan struct{}
}

func newScreen() *screen { return &screen{fresh: make(chan struct{}, 100)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.fresh <- struct{}{} }()
	return s.text.Write(p)
}

// await returns what a pattern's group matches, as soon as it is printed.
func (s *screen) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		s.mu.Lock()
		m := re.FindStringSubmatch(s.text.String())
		s.mu.Unlock()
		if m != nil {
			return m[1]
		}
		select {
		case <-s.fresh:
		case <-t.Context().Done():
			t.Fatalf("%q is not printed; there is\n%s", pattern, s.text.String())
		}
	}
}

func TestCollectPrintsWhatArrives(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	out, notes := newScreen(), newScreen()
	names := dnstest.New(t, "1.0.0.127.in-addr.arpa. 60 PTR relay.example.").Listen()
	c := collectCommand()
	c.SetOut(out)
	c.SetErr(notes)
	c.SetArgs([]string{
		"--collector", "probe.example", "--collector-listen", "127.0.0.1:0", "--zone", "probe.example", "--zone-listen", "127.0.0.1:0",
		"--api-listen", "127.0.0.1:0", "--state", state, "--json", "--resolver", names.String(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.ExecuteContext(ctx) }()

	url := notes.await(t, `api +(http://\S+)`)
	at := notes.await(t, `mail +probe\.example at (\S+);`)
	secret, err := collect.ReadSecret(filepath.Join(state, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	remote, err := collect.NewRemote(ctx, collect.RemoteConfig{URL: url, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Preflight(ctx); err != nil {
		t.Errorf("preflight: %v", err)
	}
	if remote.About().Zone != "probe.example" {
		t.Errorf("about %+v", remote.About())
	}
	tokens, err := remote.Tokens(ctx, 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client, err := smtp.Dial(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := errors.Join(client.Mail("a@relay.example"), client.Rcpt(remote.Recipient(tokens[0]).String())); err != nil {
		t.Fatal(err)
	}
	w, err := client.Data()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(second(io.WriteString(w, "Subject: x\r\n\r\ny\r\n")), w.Close(), client.Quit()); err != nil {
		t.Fatal(err)
	}
	line := out.await(t, `(?m)^(\{.*\})$`)
	var a verdict.Arrival
	if err := json.Unmarshal([]byte(line), &a); err != nil || a.Tokens[0] != tokens[0] || a.PTR != "relay.example" {
		t.Errorf("printed %s, %v", line, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the command ends with %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCollectRefuses(t *testing.T) {
	open := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(open, []byte("a secret that all can read\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, args, want string
		code             int
	}{
		{"no domain", "", "--collector", exitUsage},
		{"no domain name", "--collector a..b", "--collector", exitUsage},
		{"an API without a secret", "--collector probe.example --collector-listen 127.0.0.1:0 --api-listen 127.0.0.1:0", "--secret-file", exitIO},
		{"half a certificate", "--collector probe.example --collector-listen 127.0.0.1:0 --state STATE --api-listen 127.0.0.1:0 --api-tls-cert x", "belong together", exitUsage},
		{"an API that shows its secret", "--collector probe.example --collector-listen 127.0.0.1:0 --state STATE --api-listen 0.0.0.0:0", "would show the secret", exitUsage},
		{"a secret that others can read", "--collector probe.example --collector-listen 127.0.0.1:0 --secret-file " + open, "chmod 600", exitIO},
		{"a missing certificate", "--collector probe.example --collector-listen 127.0.0.1:0 --state STATE --api-listen 127.0.0.1:0 --api-tls-cert x --api-tls-key y", "--api-tls-cert", exitIO},
	} {
		command := collectCommand()
		command.SetOut(newScreen())
		command.SetErr(newScreen())
		command.SilenceErrors, command.SilenceUsage = true, true
		command.SetArgs(strings.Fields(strings.ReplaceAll(c.args, "STATE", filepath.Join(t.TempDir(), "state"))))
		err := command.ExecuteContext(t.Context())
		var e *exit
		if !errors.As(err, &e) || e.code != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: postern collect %s: %v, want %q in it and exit code %d", c.name, c.args, err, c.want, c.code)
		}
	}
}

func TestArrivalLineObeysNobody(t *testing.T) {
	a := verdict.Arrival{
		Tokens: append(verdict.Arrival{}.Tokens, "pttoken"), Kind: verdict.Message, At: time.Date(2026, 11, 24, 10, 0, 0, 0, time.Local),
		Peer: netip.MustParseAddrPort("198.51.100.4:25"), PTR: "smtp.provider.example", Helo: "\x1b[31mred", ForwardPath: "<x@y>\n250 ok" + strings.Repeat("z", 500),
	}
	want := `2026-11-24 10:00:00 message pttoken from 198.51.100.4 (smtp.provider.example) helo "\x1b[31mred" to "<x@y>\n250 ok` + strings.Repeat("z", 188) + `"...`
	if got := arrivalLine(a); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
