package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// CheckCalls returns where the source of a file in pkg names a function that a nocall line keeps
// out of it. A method value or an alias is a name like any other.
func CheckCalls(r Rules, pkg, name string, source []byte) ([]string, error) {
	var banned []arrow
	for _, a := range r.nocall {
		if r.coversAny(a.from, pkg) {
			banned = append(banned, a)
		}
	}
	if len(banned) == 0 {
		return nil, nil
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	local := map[string]string{} // the name in this file of each imported package
	var findings []string
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		as := path.Base(imported)
		if spec.Name != nil {
			as = spec.Name.Name
		}
		if as == "." && slices.ContainsFunc(banned, func(a arrow) bool { return namesFunctionOf(a.to, imported) }) {
			findings = append(findings, fmt.Sprintf("%s: imports %s into its own names, where nobody can see what it calls", set.Position(spec.Pos()), imported))
		}
		local[as] = imported
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		full := local[id.Name] + "." + sel.Sel.Name
		for _, a := range banned {
			if slices.Contains(a.to, full) {
				findings = append(findings, fmt.Sprintf("%s: %s is kept out of %s (layers.txt:%d), %s", set.Position(sel.Pos()), full, pkg, a.line, a.why))
			}
		}
		return true
	})
	return findings, nil
}

func namesFunctionOf(functions []string, imported string) bool {
	return slices.ContainsFunc(functions, func(f string) bool {
		return strings.TrimSuffix(f, path.Ext(f)) == imported
	})
}

// CheckDoors compares what door/door.go says is built with the files that exist. built holds
// paths like "open/smtp.go"; wanted maps every possible one to whether it should be there.
func CheckDoors(wanted map[string]bool, exists func(string) bool) []string {
	var findings []string
	for file, want := range wanted {
		switch have := exists(file); {
		case want && !have:
			findings = append(findings, fmt.Sprintf("%s is missing; door/door.go says that this side is built", file))
		case !want && have:
			findings = append(findings, fmt.Sprintf("%s exists; say in door/door.go that this side is built", file))
		}
	}
	slices.Sort(findings)
	return findings
}

// CheckTree compares the folders with the first fenced block below "## The tree" in the text of
// ARCHITECTURE.md, where each line that begins with a folder (a word that ends in a slash) is one.
func CheckTree(architecture string, folders []string) []string {
	_, after, ok := strings.Cut(architecture, "\n## The tree\n")
	parts := strings.SplitN(after, "```", 3)
	if !ok || len(parts) < 3 {
		return []string{"ARCHITECTURE.md: no fenced block below \"## The tree\""}
	}
	listed := map[string]bool{}
	var findings []string
	for _, line := range strings.Split(parts[1], "\n") {
		word, _, _ := strings.Cut(line, " ")
		folder, ok := strings.CutSuffix(word, "/")
		if !ok {
			continue
		}
		if listed[folder] {
			findings = append(findings, fmt.Sprintf("ARCHITECTURE.md: %s/ is listed twice", folder))
		}
		listed[folder] = true
		if !slices.Contains(folders, folder) {
			findings = append(findings, fmt.Sprintf("ARCHITECTURE.md: %s/ is listed and does not exist", folder))
		}
	}
	for _, folder := range folders {
		if !listed[folder] {
			findings = append(findings, fmt.Sprintf("ARCHITECTURE.md: %s/ exists and is not listed", folder))
		}
	}
	return findings
}
