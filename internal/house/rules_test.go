package house

import (
	"strings"
	"testing"
)

const sample = `
rim   cmd/app
face  serve check lab
side  open guard
core  mail plan
base  internal/problem
test  internal/peers bench

allow plan -> mail       : a form is written in addresses
allow serve -> check     : the self-audit
never serve -> open lab  : no yes
never core -> net os log/... : values only
nocall core -> time.Now time.Sleep : time is a value
only  example.org/dns    : serve
only  example.org/diff   : tests
`

func TestRulesThatCannotHold(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty row", "core", "layers.txt:1: row core has no package"},
		{"package twice", "core mail\nbase mail", "layers.txt:2: mail stands already in line 1"},
		{"row named like a package", "core mail\nmail plan", "layers.txt:2: mail stands already in line 1"},
		{"arrow without a reason", "core mail plan\nallow plan -> mail", "layers.txt:2: write it as: FROM... -> TO... : why"},
		{"arrow to nothing", "core mail\nnever mail -> : why", "layers.txt:2: write it as"},
		{"never of a stranger", "core mail\nnever mial -> os : typed wrongly", "layers.txt:2: mial is neither a row nor a package"},
		{"allow upwards", "core mail\nbase problem\nallow problem -> mail : wanted", "layers.txt:3: problem -> mail is no step within a row"},
		{"library without a place", "core mail\nonly example.org/dns", "layers.txt:2: write it as: only LIBRARY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseRules(c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q\ngot  %v\nwant %s", c.text, err, c.want)
			}
		})
	}
}

// pkg makes a package of a graph: "plan: mail net/netip | example.org/diff" imports what stands
// before the bar, and in its tests what stands behind it.
func pkg(line string) Package {
	name, imports, _ := strings.Cut(line, ":")
	code, tests, _ := strings.Cut(imports, "|")
	return Package{Path: name, Doc: "Package comment.", Files: []string{"a.go"}, Imports: strings.Fields(code), TestImports: strings.Fields(tests)}
}

func TestGraphs(t *testing.T) {
	rules, err := ParseRules(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		graph []string
		want  []string // the beginnings of the findings; none: the graph is well
	}{
		{"downwards", []string{"cmd/app: serve mail fmt", "serve: guard mail internal/problem", "guard: mail"}, nil},
		{"upwards", []string{"mail: serve"}, []string{"mail -> serve: the row core may not import face above it"}},
		{"upwards out of the base", []string{"internal/problem: mail"}, []string{"internal/problem -> mail: the row base may not import core"}},
		{"sideways", []string{"mail: plan"}, []string{"mail -> plan: both stand in the row core"}},
		{"sideways, allowed", []string{"plan: mail"}, nil},
		{"allowed one way only", []string{"check: serve"}, []string{"check -> serve: both stand in the row face"}},
		{"a folder below belongs to the one above", []string{"serve/http: serve", "serve: serve/http"}, nil},
		{"a name that only begins alike", []string{"served: mail"}, []string{"served stands in no row"}},
		{"no row", []string{"utils: fmt"}, []string{"utils stands in no row"}},
		{"never, at once", []string{"serve: open"}, []string{"serve -> open: never"}},
		{"never, through others", []string{"serve: check", "check: guard", "guard: internal/problem", "internal/problem: open"}, []string{
			"internal/problem -> open: the row base may not import side",
			"serve -> check -> guard -> internal/problem -> open: never (layers.txt:11), no yes",
		}},
		{"never, in a circle", []string{"serve: check", "check: serve"}, []string{"check -> serve: both stand"}},
		{"the standard library in the core", []string{"mail: net"}, []string{"mail -> net: never"}},
		{"through the base", []string{"plan: internal/problem", "internal/problem: os"}, []string{"plan -> internal/problem -> os: never"}},
		{"below a forbidden path", []string{"mail: log/slog"}, []string{"mail -> log/slog: never"}},
		{"beside a forbidden path", []string{"mail: net/netip"}, nil},
		{"a library at its place", []string{"serve: example.org/dns/zone"}, nil},
		{"a library elsewhere", []string{"guard: example.org/dns"}, []string{"guard -> example.org/dns: the library enters only in serve"}},
		{"a library elsewhere, in a test", []string{"guard: | example.org/dns"}, []string{"guard -> example.org/dns: the library enters only in serve"}},
		{"a library without a place", []string{"serve: example.org/dnsx"}, []string{"serve -> example.org/dnsx: the library has no place of entry"}},
		{"a library of tests", []string{"mail: | example.org/diff", "bench: example.org/diff"}, nil},
		{"a library of tests in code", []string{"mail: example.org/diff"}, []string{"mail -> example.org/diff: the library enters only in tests"}},
		{"tests may import all", []string{"mail: | serve internal/peers", "internal/peers: cmd/app open"}, nil},
		{"code imports what is for tests", []string{"serve: internal/peers"}, []string{"serve -> internal/peers: only tests import"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var graph []Package
			for _, line := range c.graph {
				graph = append(graph, pkg(line))
			}
			compare(t, Check(rules, graph), c.want)
		})
	}
}

func TestPackageComment(t *testing.T) {
	rules, err := ParseRules("core mail")
	if err != nil {
		t.Fatal(err)
	}
	silent := Package{Path: "mail", Files: []string{"mail.go"}}
	compare(t, Check(rules, []Package{silent}), []string{"mail has no package comment"})
	onlyTests := Package{Path: "mail"}
	compare(t, Check(rules, []Package{onlyTests}), nil)
}

func TestCalls(t *testing.T) {
	rules, err := ParseRules(sample)
	if err != nil {
		t.Fatal(err)
	}
	const body = "package x\n"
	for _, c := range []struct {
		name, pkg, source string
		want              []string
	}{
		{"a call", "mail", `import "time"; var x = time.Now()`, []string{"f.go:2:24: time.Now is kept out of mail"}},
		{"a value", "plan", `import "time"; var now = time.Now`, []string{"f.go:2:26: time.Now"}},
		{"another name", "mail", `import clock "time"; func f() { clock.Sleep(1) }`, []string{"f.go:2:33: time.Sleep"}},
		{"no name at all", "mail", `import . "time"; var x = Now()`, []string{"f.go:2:8: imports time into its own names"}},
		{"a type", "mail", `import "time"; var x time.Time`, nil},
		{"a method of our own", "mail", `type c struct{}; func (c) Now() {}; func f(time c) { time.Now() }`, nil},
		{"elsewhere", "serve", `import "time"; var x = time.Now()`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := CheckCalls(rules, c.pkg, "f.go", []byte(body+c.source))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, c.want)
		})
	}
}

func TestDoorsAndFiles(t *testing.T) {
	exists := func(file string) bool { return file == "open/smtp.go" || file == "guard/smtp.go" }
	got := CheckDoors(map[string]bool{"open/smtp.go": true, "probe/smtp.go": true, "guard/smtp.go": false, "open/socks.go": false}, exists)
	compare(t, got, []string{"guard/smtp.go exists; say in door/door.go", "probe/smtp.go is missing"})
}

func TestTree(t *testing.T) {
	const text = "# A\n\n## The tree\n```\nmail/     addresses\nsmtp/     wire, see also plan/\n  the core\nsmtp/   again\ngone/\n```\n"
	compare(t, CheckTree(text, []string{"mail", "smtp", "plan"}), []string{
		"ARCHITECTURE.md: smtp/ is listed twice",
		"ARCHITECTURE.md: gone/ is listed and does not exist",
		"ARCHITECTURE.md: plan/ exists and is not listed",
	})
	compare(t, CheckTree("# A\n", nil), []string{"ARCHITECTURE.md: no fenced block"})
}

// compare holds each finding against the beginning that is wanted in its place.
func compare(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case i >= len(want):
			t.Errorf("unexpected: %s", got[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}
