package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"postern/door"
)

// A passed is one line of docs/doors/matrix.md.
type passed struct {
	got  judged
	took time.Duration
	nmap string
}

// nmapSays asks nmap's script for the door, at the same passage, with a page of the tester's to be
// led to: it knows no other port than 80,
// and looks for names alone. At a forwarded port it is the one for mail servers.
func (p Passage) nmapSays(t *testing.T, target *Target) string {
	t.Helper()
	zone(t, target)
	const page = "postern"
	l, err := target.Listen(t.Context(), net.JoinHostPort(Tester4, "80"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", page) // nmap reads once, and proxies pass on the head first
		_, _ = io.WriteString(w, page+"\n")
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	script := map[door.Door]string{door.SMTP: "smtp-open-relay", door.SOCKS: "socks-open-proxy", door.Connect: "http-open-proxy", door.Forward: "smtp-open-relay"}[p.Door]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := target.Nmap(t, "-n", "-Pn", "--dns-servers", Tester4, "-p", p.Port, "--script", "+"+script, "--script-args", "proxy.url=http://mx."+Collector+"/,proxy.pattern="+page, target.Case.Address())
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nmap: %v\n%s", err, out)
	}
	var says []string
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(strings.TrimLeft(line, "|_ "), script+":"); ok {
			says = append(says, strings.TrimSpace(text))
		} else if strings.HasPrefix(line, "|") { // the lines below it
			says = append(says, strings.Trim(line, "|_ \n"))
		}
	}
	if text := strings.TrimSpace(strings.Join(says, " ")); text != "" {
		return text
	}
	return "nothing"
}

// proxiesMatrix is the page.
func proxiesMatrix(rows []passed) []byte {
	var page bytes.Buffer
	page.WriteString(`# Real proxies, real verdicts

Each line is a proxy or a forwarder from Debian 12 with one configuration, in a network of its own. What it truly does was shown by hand first: at an open one a stranger's message arrived at the tester's mail server, at the others none did. Then ` + "`postern check`" + ` judged it from outside, and after it nmap judged the same server: socks-open-proxy and http-open-proxy with a page of the tester's to fetch, and smtp-open-relay where a port is passed on. nmap's scripts for proxies ask for port 80 alone, and count one as open that leads there; for them *closed, leads to other ports* is an open proxy too, and counts as right. The mail servers are in [another page](../matrix.md).

Made by ` + "`POSTERN_PEERS=1 go test ./internal/peers -run TestProxies -update`" + ` as root.

| server | configuration | truth | postern | by which way | mail comes from | s | nmap | |
| --- | --- | --- | --- | --- | --- | ---: | --- | --- |
`)
	right, theirs := 0, 0
	for i, p := range Passages {
		r := rows[i]
		truth, kind, egress := p.Want, "", ""
		if p.Elsewhere {
			truth += ", leads to other ports"
		}
		if r.got.Verdict == "open" {
			kind = string(r.got.Kind)
			if r.got.Proof != nil {
				egress = r.got.Proof.Egress
			}
		}
		if r.got.Verdict == p.Want {
			right++
		}
		open := strings.Contains(r.nmap, "OPEN proxy") || strings.Contains(r.nmap, "status: open") || strings.Contains(r.nmap, "is an open relay")
		judged := "wrong"
		if open == (p.Want == "open" || p.Elsewhere) {
			judged = "right"
			theirs++
		}
		cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s | %s | %.1f | %s | %s |\n", p.Server, cell(p.What), truth, r.got.Verdict, kind, egress, r.took.Seconds(), cell(r.nmap), judged)
	}
	fmt.Fprintf(&page, "\n`postern check`: %d of %d right. nmap: %d of %d.\n", right, len(rows), theirs, len(rows))
	return page.Bytes()
}

func writeProxiesMatrix(t *testing.T, rows []passed) {
	t.Helper()
	if err := os.WriteFile("../../docs/doors/matrix.md", proxiesMatrix(rows), 0o644); err != nil {
		t.Fatal(err)
	}
}
