package house

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write api.txt")

// TestPromisesAreKept shows every change of what other programs may use. A line that is gone or
// another breaks somebody's program; a new one is a promise.
func TestPromisesAreKept(t *testing.T) {
	architecture, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	promised := Promised(string(architecture))
	if len(promised) < 2 {
		t.Fatalf("ARCHITECTURE.md promises %v", promised)
	}
	var got []string
	for _, folder := range promised {
		sources := map[string][]byte{}
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			if sources[file], err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
		lines, err := API(folder, sources)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, lines...)
	}
	file := filepath.Join(root, "api.txt")
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(old)), "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("new: %s", line)
		}
	}
	if t.Failed() {
		t.Log("if that is meant: go test ./internal/house -run TestPromisesAreKept -update")
	}
}

func TestAPI(t *testing.T) {
	got, err := API("p", map[string][]byte{"b.go": []byte(`package p
// A T is a thing.
type T struct {
	A, B int // both
	c    string
	F    func(x int) (n int, err error)
	E
}
type hidden struct{ X int }
type I interface { M(ctx, other C) error; error }
type G[K comparable, V any] map[K]V
type Same = T
const ( One Kind = iota; two; Three )
var Err, bad = f()
`), "a.go": []byte(`package p
func F(a, b int, rest ...string) (string, error) { return "", nil }
func g() {}
func (t *T) M() {}
func (t *T) m() {}
func (hidden) X() {}
func (g G[K, V]) Get(k K) V { panic(k) }
func Map[A, B any](list []A, f func(a A) B) []B { return nil }
`)})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, []string{
		"package p, const One Kind",
		"package p, const Three",
		"package p, func F(int, int, ...string) (string, error)",
		"package p, func Map[A any, B any]([]A, func(A) B) []B",
		"package p, method (*T) M()",
		"package p, method (G[K, V]) Get(K) V",
		"package p, type G[K comparable, V any] map[K]V",
		"package p, type I interface",
		"package p, type I: M func(C, C) error",
		"package p, type I: error",
		"package p, type Same = T",
		"package p, type T struct",
		"package p, type T: A int",
		"package p, type T: B int",
		"package p, type T: E",
		"package p, type T: F func(int) (int, error)",
		"package p, var Err",
	})
	if _, err := API("p", map[string][]byte{"a.go": []byte("package")}); err == nil {
		t.Error("what does not parse has an API")
	}
	compare(t, Promised("# A\n## The tree\n```\nmail/      * addresses\nopen/ says * yes\nsmtp/ *\n```\n"), []string{"mail", "smtp"})
}
