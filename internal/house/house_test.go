package house

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/door"
)

//go:embed layers.txt
var layers string

const root = "../.."

// module is how our own packages begin where they are imported.
const module = "postern/"

func theRules(t *testing.T) Rules {
	t.Helper()
	r, err := ParseRules(layers)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// thePackages asks the go command, so that what is checked is what is built.
func thePackages(t *testing.T) []Package {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var list []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Doc                             string
			GoFiles, Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, Package{
			Path: strings.TrimPrefix(p.ImportPath, module), Doc: p.Doc, Files: p.GoFiles,
			Imports: ours(p.Imports), TestImports: ours(append(p.TestImports, p.XTestImports...)),
		})
	}
	if len(list) < 2 {
		t.Fatalf("go list found %d packages", len(list))
	}
	return list
}

func ours(imports []string) []string {
	for i := range imports {
		imports[i] = strings.TrimPrefix(imports[i], module)
	}
	return imports
}

func report(t *testing.T, findings []string) {
	t.Helper()
	for _, f := range findings {
		t.Error(f)
	}
}

func TestImportsKeepTheRules(t *testing.T) {
	report(t, Check(theRules(t), thePackages(t)))
}

func TestTheCoreTakesTimeAsAValue(t *testing.T) {
	rules := theRules(t)
	for _, p := range thePackages(t) {
		for _, name := range p.Files {
			file := path.Join(p.Path, name)
			source, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				t.Fatal(err)
			}
			findings, err := CheckCalls(rules, p.Path, file, source)
			if err != nil {
				t.Fatal(err)
			}
			report(t, findings)
		}
	}
}

func TestEveryDoorHasItsSides(t *testing.T) {
	wanted := map[string]bool{}
	for _, d := range door.All() {
		for _, s := range door.Sides() {
			wanted[s.String()+"/"+d.String()+".go"] = d.Built(s)
		}
	}
	report(t, CheckDoors(wanted, func(file string) bool {
		_, err := os.Stat(filepath.Join(root, file))
		return err == nil
	}))
}

func TestArchitectureShowsTheTree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, CheckTree(string(text), folders(t)))
}

// folders returns every folder that a reader should know of: those at the root, and those with Go
// source. What git ignores, hides or keeps as test data is none.
func folders(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "dist") {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		if rel == "." {
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			found[filepath.ToSlash(rel)] = true
		}
		if top, _, _ := strings.Cut(filepath.ToSlash(rel), "/"); top != "internal" && top != "cmd" {
			found[top] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for folder := range found {
		list = append(list, folder)
	}
	slices.Sort(list)
	return list
}
