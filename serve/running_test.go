package serve

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"postern/internal/problem"
	"postern/internal/state"
)

// free is a port that nobody has just now; the relay binds its own.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestMetrics(t *testing.T) {
	s := only(loopback(ordinary()), "mx")
	s.Metrics = free(t)
	r := run(t, s)
	c := r.dial("mx")
	r.send(c, "<a@far.example>", "<b@elsewhere.example>")
	r.send(c, "<a@far.example>", "<anna@example.org>")
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.queued() // the session has ended by now, or ends below
	var text string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, text = get(t, "http://"+s.Metrics.String()+"/metrics"); strings.Contains(text, `postern_sessions_total{listener="mx",result="quit"} 1`) &&
			strings.Contains(text, `result="withheld"} 1`) || time.Now().After(end) {
			break
		}
	}
	for _, line := range []string{
		`postern_sessions_total{listener="mx",result="quit"} 1`, `postern_refused_total{reason="relaying"} 1`, `postern_grants_total{reason="inbound"} 1`,
		`postern_messages_total{result="stored"} 1`, "postern_audit_closed 1", "postern_stranger_grants_total 0", `postern_queue_messages{state="held"} 1`, `postern_deliveries_total{class="",result="withheld"} 1`, "postern_commit_seconds_count 1",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	for _, private := range []string{"example.org", "far.example", "anna", "127.0.0.1"} {
		if strings.Contains(text, private) {
			t.Errorf("%q is in the metrics", private)
		}
	}
	if code, text := get(t, "http://"+s.Metrics.String()+"/healthz"); code != 200 || text != "ok\n" {
		t.Errorf("healthz: %d %q", code, text)
	}
}

// A certificate that was renewed is used without a reload, and one that does
// not fit its key is not.
func TestCertificateIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	folder := &state.Folder{Path: dir}
	from := must(selfSigned(folder, "mx.example.org"))
	c := must(loadCertificates(from, nil))
	old := c.leaf().SerialNumber
	shown := func() *tls.Certificate { return must(c.config(false).GetCertificate(nil)) }

	again := &state.Folder{Path: t.TempDir()}
	next := must(selfSigned(again, "mx.example.org"))
	later := time.Now().Add(time.Minute)
	swap := func(from, to string) {
		text := must(os.ReadFile(from))
		if err := state.WriteFile(to, text); err != nil {
			t.Fatal(err)
		}
		later = later.Add(time.Minute)
		if err := os.Chtimes(to, later, later); err != nil {
			t.Fatal(err)
		}
	}
	swap(next.File, from.File) // the key is still the old one
	if renewed, err := c.refresh(); renewed || err == nil || shown().Leaf.SerialNumber.Cmp(old) != 0 {
		t.Errorf("half a pair: renewed %v, %v", renewed, err)
	}
	swap(next.Key, from.Key)
	if renewed, err := c.refresh(); !renewed || err != nil || shown().Leaf.SerialNumber.Cmp(old) == 0 {
		t.Errorf("the new pair: renewed %v, %v", renewed, err)
	}
	if renewed, err := c.refresh(); renewed || err != nil {
		t.Errorf("nothing new: renewed %v, %v", renewed, err)
	}
	if _, err := loadCertificates(Certificate{File: dir + "/none", Key: dir + "/none"}, nil); err == nil || !strings.Contains(err.Error(), "name the PEM files") {
		t.Errorf("files that are not there: %v", err)
	}
}

func TestFirstStart(t *testing.T) {
	s := only(loopback(ordinary()), "submission")
	s.Local = true
	r := run(t, s)
	first := r.Status().First
	if first == "" || len(r.users.List()) != 1 {
		t.Fatalf("first start: password %q, users %v", first, r.users.List())
	}
	c := r.dial("submission")
	if err := c.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	if err := c.Auth(t.Context(), FirstUser, first); err != nil {
		t.Errorf("the password that was shown: %v", err)
	}
	r.end()
	r.start()
	if again := r.Status().First; again != "" {
		t.Errorf("the password is shown once, and was shown again: %q", again)
	}
}

func TestPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := netip.MustParseAddrPort(l.Addr().String())
	for _, c := range []struct {
		whose string
		take  func(*Settings)
	}{
		{`postern.hcl:1:1: listener "mx"`, func(s *Settings) { s.Listeners[0].Addrs[0] = taken }},
		{`postern.hcl:9:3: metrics`, func(s *Settings) {
			s.Metrics, s.MetricsAt = taken, problem.Pos{File: "postern.hcl", Line: 9, Column: 3}
		}},
	} {
		s := loopback(ordinary())
		c.take(&s)
		_, err = bind(s.Ports(), nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.whose+" cannot have 127.0.0.1:") || !strings.Contains(err.Error(), "holds it; stop that one, or choose another port") {
			t.Errorf("%s: bind = %v", c.whose, err)
		}
	}
}
