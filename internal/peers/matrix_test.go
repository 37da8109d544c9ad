package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/matrix.md")

// A row is one line of docs/matrix.md.
type row struct {
	verdict string
	proof   []string // forms that arrived
	took    time.Duration
	nmap    string
}

// TestMatrix holds the auditor to every case, as its user runs it: the built program on the
// tester's side, with its own collector and zone. Beside it, on a server of its own with the same
// configuration, nmap's smtp-open-relay says what it thinks; nothing depends on that.
func TestMatrix(t *testing.T) {
	Require(t)
	binary := filepath.Join(t.TempDir(), "postern")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "postern/cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	rows := make([]row, len(Cases))
	t.Run("cases", func(t *testing.T) {
		for i, c := range Cases {
			t.Run(c.Name(), func(t *testing.T) {
				t.Parallel()
				t.Run("postern", func(t *testing.T) {
					t.Parallel()
					rows[i].audit(t, Start(t, c), binary)
				})
				t.Run("nmap", func(t *testing.T) {
					t.Parallel()
					rows[i].nmap = askNmap(t, Start(t, c))
				})
			})
		}
	})
	// Also when a verdict is wrong: the page says what was measured.
	if *update {
		if err := os.WriteFile("../../docs/matrix.md", matrix(rows), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// audit runs the check and compares its verdict and its proof with the truth.
func (r *row) audit(t *testing.T, target *Target, binary string) {
	t.Helper()
	c := target.Case
	args := []string{
		binary, "check", c.Address(), "--i-own",
		"--collector", Collector, "--collector-listen", Tester4 + ":25",
		"--zone", Collector, "--zone-listen", Tester4 + ":53", "--resolver", Tester4 + ":53",
		"--wait", "20s", "--pace", "100ms", "--json", "--one",
	}
	if !c.Unnamed {
		args = append(args, "--domain", Domain)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := target.tester.command(ctx, append(args, c.Flags...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	r.took = time.Since(began)
	var report struct {
		Verdict     string
		Backscatter bool
		Tested      float64
		Why         string
		Doors       []struct {
			Forms []struct{ Form, State string }
		}
	}
	if bad := json.Unmarshal(stdout.Bytes(), &report); bad != nil {
		t.Fatalf("%s\n%v: %v\n%s%s", strings.Join(args[1:], " "), err, bad, stdout.String(), stderr.String())
	}
	r.verdict = report.Verdict
	for _, d := range report.Doors {
		for _, f := range d.Forms {
			if f.State == "arrived" && !slices.Contains(r.proof, f.Form) {
				r.proof = append(r.proof, f.Form)
			}
		}
	}
	t.Logf("%s in %.1f s, %.0f %% tested: %s; arrived: %s", r.verdict, r.took.Seconds(), report.Tested*100, report.Why, strings.Join(r.proof, " "))
	if report.Verdict != c.Want {
		t.Errorf("%s (%s)\ngot  %s: %s\nwant %s\n%s", c.Name(), c.What, report.Verdict, report.Why, c.Want, stdout.String())
	}
	// An open server returns what it cannot deliver as well, which nobody needs to be told.
	if c.Want != "open" && report.Backscatter != c.Backscatter {
		t.Errorf("%s: backscatter %t, want %t", c.Name(), report.Backscatter, c.Backscatter)
	}
	proves := func(form string) bool { return slices.Contains(r.proof, form) }
	if c.Hole != "" && !slices.ContainsFunc(strings.Fields(c.Hole), proves) {
		t.Errorf("%s: proved by %v, want one of %s", c.Name(), r.proof, c.Hole)
	}
	if want := map[string]int{"closed": 0, "open": 1, "accepts": 2}[c.Want]; cmd.ProcessState.ExitCode() != want {
		t.Errorf("%s: exit code %d, want %d", c.Name(), cmd.ProcessState.ExitCode(), want)
	}
}

// askNmap returns what the script prints on its first line, for the ports where it runs.
func askNmap(t *testing.T, target *Target) string {
	t.Helper()
	args := []string{"-n", "-Pn", "-p", "25,465,587", "--script", "smtp-open-relay", target.Case.Address()}
	if target.Case.Family == "6" {
		args = append([]string{"-6"}, args...)
	}
	out, err := target.Nmap(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nmap %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	var says []string
	for line := range strings.Lines(string(out)) {
		if _, text, ok := strings.Cut(line, "smtp-open-relay: "); ok {
			says = append(says, strings.TrimSpace(text))
		}
	}
	if says == nil {
		return "nothing"
	}
	return strings.Join(slices.Compact(says), "; ")
}

// matrix is the page.
func matrix(rows []row) []byte {
	var page bytes.Buffer
	page.WriteString(`# Real servers, real verdicts

Each line is a mail server from Debian 12 with one configuration, in a network of its own. ` + "`postern check`" + ` judged it from outside, with its own collector and DNS zone; nmap's smtp-open-relay judged an identical server beside it in the same run. What each server truly does was shown by hand first: at an open one a stranger's message arrived, at the others its recipient was refused. The servers are ours and near, so the check paused for 100 ms between two sessions (its default is a second), and waited 20 s for arrivals.

Made by ` + "`POSTERN_PEERS=1 go test ./internal/peers -run TestMatrix -update`" + ` as root.

| server | configuration | truth | postern | proved by | s | nmap smtp-open-relay | nmap |
| --- | --- | --- | --- | --- | --- | --- | --- |
`)
	right, nmapRight := 0, 0
	for i, c := range Cases {
		r := rows[i]
		proof := strings.Join(r.proof[:min(len(r.proof), 3)], ", ")
		if more := len(r.proof) - 3; more > 0 {
			proof += fmt.Sprintf(" and %d more", more)
		}
		judged := "wrong"
		open := strings.Contains(r.nmap, "is an open relay")
		refused := strings.Contains(r.nmap, "doesn't seem to be")
		switch {
		case !open && !refused:
			judged = "no verdict"
		case open == (c.Want == "open"):
			judged = "right"
			nmapRight++
		}
		if r.verdict == c.Want {
			right++
		}
		truth := c.Want
		if c.Backscatter {
			truth += ", backscatter"
		}
		cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s | %.0f | %s | %s |\n", c.Server, cell(c.What), truth, r.verdict, proof, r.took.Seconds(), cell(r.nmap), judged)
	}
	fmt.Fprintf(&page, "\n`postern check`: %d of %d right. nmap's smtp-open-relay: %d of %d.\n", right, len(rows), nmapRight, len(rows))
	return page.Bytes()
}
