package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/mail"
	"postern/smtp"
)

// TestKilledRelayLosesNothing kills a relay again and again while it takes mail
// and delivers it: what was answered 250 to arrives, once but for what was on
// its way in the moment of a kill (RFC 1047).
func TestKilledRelayLosesNothing(t *testing.T) {
	kills := 6
	if s := os.Getenv("POSTERN_CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	sink := newSink(t)
	port := freePort(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "postern.hcl")
	text := fmt.Sprintf(`hostname = "mx.example.org"
listener "mx" {
  port = %d
  addresses = ["127.0.0.1"]
}
domain "example.org" {
  recipients = ["anna"]
  deliver = "smtp:%s"
}
limits {
  new_connections     = "1000000/m"
  stranger_messages   = "1000000/m"
  stranger_recipients = "1000000/m"
  stranger_bytes      = "1TiB/m"
  greet_pause = "0s"
}
log { level = "error" }
`, port, sink.address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	var mu sync.Mutex
	taken := map[string]bool{} // marks of messages that were answered 250 to
	for worker := range 8 {
		load.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				mark := fmt.Sprintf("mark-%d-%d", worker, n)
				if hand(ctx, address, mark) {
					mu.Lock()
					taken[mark] = true
					mu.Unlock()
				} else {
					time.Sleep(20 * time.Millisecond) // the relay is being started
				}
			}
		})
	}
	start := func() *exec.Cmd {
		cmd := exec.Command("postern", "serve", "--config", config, "--state", filepath.Join(dir, "s"))
		cmd.Stderr = os.Stderr
		ready, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(ready); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready after") {
				go func() { _, _ = io.Copy(io.Discard, ready) }() // ends with the process
				return cmd
			}
		}
		t.Fatal("the relay did not start")
		return nil
	}
	for range kills {
		cmd := start()
		time.Sleep(time.Duration(50+rand.IntN(700)) * time.Millisecond) // a kill has no better moment
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	last := start()
	time.Sleep(300 * time.Millisecond)
	cancel()
	load.Wait()
	var missing int
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		missing = 0
		mu.Lock()
		for mark := range taken {
			if sink.count(mark) == 0 {
				missing++
			}
		}
		mu.Unlock()
		if missing == 0 || time.Now().After(end) {
			break
		}
	}
	_ = last.Process.Signal(os.Interrupt)
	if err := last.Wait(); err != nil {
		t.Errorf("the last one ended with %v", err)
	}
	twice := 0
	for _, n := range sink.got {
		twice += n - 1
	}
	t.Logf("%d kills, %d messages were taken, %d arrived twice", kills, len(taken), twice)
	if missing > 0 {
		t.Errorf("%d of %d messages that were answered 250 to are lost", missing, len(taken))
	}
	if len(taken) < 10*kills {
		t.Errorf("only %d messages were taken: that says little", len(taken))
	}
	if most := kills * 20; twice > most {
		t.Errorf("%d arrived twice; at most %d were on their way when it was killed", twice, most)
	}
}

// hand gives one message to the relay, and reports whether it was taken.
func hand(ctx context.Context, address, mark string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	limit := smtp.Timeouts{Command: 10 * time.Second, Data: 10 * time.Second, End: 10 * time.Second}
	c, err := smtp.NewClient(ctx, conn, smtp.ClientOptions{Timeouts: limit})
	if err != nil {
		return false
	}
	if err := c.Hello(ctx, "load.example"); err != nil {
		return false
	}
	from, err1 := mail.ParseReversePath("<a@load.example>")
	to, err2 := mail.ParseForwardPath("<anna@example.org>")
	if errors.Join(err1, err2) != nil {
		return false
	}
	body := "Subject: " + mark + "\r\n\r\n" + strings.Repeat("line of text\r\n", rand.IntN(20_000)/14)
	_, final, err := c.Send(context.WithoutCancel(ctx), mail.Envelope{From: from, To: []mail.Recipient{{Path: to}}}, strings.NewReader(body))
	return err == nil && final.Positive()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A sink takes all mail and counts it by its subject.
type sink struct {
	address string
	mu      sync.Mutex
	got     map[string]int
}

func newSink(t *testing.T) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{address: l.Addr().String(), got: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	limits := smtp.Limits{PerClient: -1, PerNetwork: -1, Messages: -1, Drain: time.Second}
	go func() { done <- (&smtp.Server{Name: "sink.example", Handler: s, Limits: limits}).Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *sink) count(mark string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[mark]
}

func (s *sink) Connect(context.Context, *smtp.Peer) (smtp.Session, mail.Reply) {
	return sinking{s}, mail.Reply{}
}

type sinking struct{ *sink }

func (sinking) Hello(context.Context, string, bool) mail.Reply { return mail.Reply{} }
func (sinking) Mail(context.Context, mail.ReversePath, mail.SenderParams) mail.Reply {
	return mail.Reply{}
}

func (sinking) Rcpt(context.Context, mail.ForwardPath, mail.RecipientParams) mail.Reply {
	return mail.NewReply(250, "2.1.5", "ok")
}

func (s sinking) Data(_ context.Context, body io.Reader) mail.Reply {
	text, err := io.ReadAll(body)
	if err != nil {
		return mail.Reply{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[mail.ParseHeader(text).Get("Subject")]++
	return mail.NewReply(250, "2.0.0", "ok")
}

func (sinking) Reset()      {}
func (sinking) Close(error) {}
