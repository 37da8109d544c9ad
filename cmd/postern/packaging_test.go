package main

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"postern/internal/config"
)

var update = flag.Bool("update", false, "write packaging/systemd/postern.service and docs/schemas anew")

const units = "../../packaging/systemd/"

// known are the directives that our units may use, by section; from
// systemd.unit(5), systemd.service(5), systemd.socket(5), systemd.exec(5),
// systemd.kill(5). A word that is mistyped is a warning for systemd, and a
// protection that is not there.
var known = map[string]string{
	"Unit":    "Description After Wants",
	"Install": "WantedBy",
	"Socket":  "ListenStream BindIPv6Only Backlog",
	"Service": `Type User Group ExecStart ExecReload WatchdogSec TimeoutStartSec TimeoutStopSec Restart RestartSec RestartPreventExitStatus
		LoadCredential StateDirectory StateDirectoryMode UMask LimitNOFILE AmbientCapabilities CapabilityBoundingSet NoNewPrivileges
		ProtectSystem ReadWritePaths ProtectHome ProtectProc ProtectClock ProtectHostname ProtectKernelLogs ProtectKernelTunables
		ProtectKernelModules ProtectControlGroups PrivateTmp PrivateDevices RemoveIPC RestrictAddressFamilies RestrictNamespaces
		RestrictRealtime RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute SystemCallArchitectures SystemCallFilter SystemCallErrorNumber`,
}

// A directive is one line of a unit.
type directive struct{ section, name, value string }

func directives(t *testing.T, unit string) (all []directive) {
	t.Helper()
	text, err := os.ReadFile(units + unit)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for n, line := range strings.Split(string(text), "\n") {
		hint := strings.HasPrefix(line, "#Load") // a line to be used is one that works
		line = strings.TrimPrefix(line, "#Load")
		switch {
		case hint:
			line = "Load" + line
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !slices.Contains(strings.Fields(known[section]), name) {
			t.Errorf("%s:%d: %q is no directive of [%s] that we know", unit, n+1, name, section)
		}
		all = append(all, directive{section, name, value})
	}
	return all
}

// What postern init writes and what is packaged are one unit.
func TestPackagedUnitIsThatOfInit(t *testing.T) {
	d := config.Draft{
		Hostname: "mx.example.org", Deliver: "hold", Program: "/usr/bin/postern", Config: defaultConfig, State: "/var/lib/postern",
	}
	files, err := d.Files()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(units+"postern.service", files["postern.service"], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(units + "postern.service")
	if err != nil || !bytes.Equal(got, files["postern.service"]) {
		t.Errorf("packaging/systemd/postern.service is not what init writes (%v); write it anew: go test -run PackagedUnit -update ./cmd/postern", err)
	}
}

func TestUnitsRunCommandsThatAreThere(t *testing.T) {
	seen := 0
	for _, d := range directives(t, "postern.service") {
		if !strings.HasPrefix(d.name, "Exec") {
			continue
		}
		seen++
		words := strings.Fields(d.value)
		command, args, err := rootCommand().Find(words[1:])
		if err != nil || command.Name() != words[1] {
			t.Errorf("%s=%s: %v", d.name, d.value, err)
			continue
		}
		command.RunE, command.Run = nil, func(*cobra.Command, []string) {}
		if err := command.ParseFlags(args); err != nil {
			t.Errorf("%s=%s: %v", d.name, d.value, err)
		}
	}
	if seen != 2 {
		t.Errorf("%d commands, want those of start and reload", seen)
	}
}

// Each port of the socket unit stands for both families, as a listener
// without addresses does.
func TestSocketUnitHasBothFamilies(t *testing.T) {
	ports := map[uint16]int{}
	for _, d := range directives(t, "postern.socket") {
		if d.name != "ListenStream" {
			continue
		}
		a, err := netip.ParseAddrPort(d.value)
		if err != nil || !a.Addr().IsUnspecified() {
			t.Errorf("ListenStream=%s: %v; want all addresses of a family", d.value, err)
		}
		ports[a.Port()]++
	}
	for _, p := range []uint16{25, 465, 587} {
		if ports[p] != 2 {
			t.Errorf("port %d has %d sockets", p, ports[p])
		}
	}
}

func TestSystemdTakesTheUnits(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("this machine has no systemd-analyze")
	}
	program, err := exec.LookPath("postern")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var paths []string
	for _, unit := range []string{"postern.service", "postern.socket"} {
		text, err := os.ReadFile(units + unit)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/bin/postern"), []byte(program))
		path := filepath.Join(dir, unit)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	out, err := exec.CommandContext(t.Context(), verify, append([]string{"verify", "--man=no"}, paths...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "postern.service") || strings.Contains(line, "postern.socket") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	if err != nil && !t.Failed() {
		t.Skipf("systemd-analyze cannot work here: %v\n%s", err, out)
	}
}

// docs/running.md names what serve can be told, and nothing that it cannot.
func TestRunningPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/running.md")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := rootCommand().Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"catch", "listen", "page", "keep", "no-sandbox", "user"} {
		if c.Flags().Lookup(name) == nil || !bytes.Contains(text, []byte("--"+name)) {
			t.Errorf("--%s: a flag of serve, and in docs/running.md?", name)
		}
	}
	for _, word := range regexp.MustCompile("`--([a-z-]+)").FindAllSubmatch(text, -1) {
		if c.Flags().Lookup(string(word[1])) == nil {
			t.Errorf("docs/running.md has --%s, which serve does not", word[1])
		}
	}
}
