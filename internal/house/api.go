package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"maps"
	"slices"
	"strings"
)

// Promised returns the folders that other Go programs may use: those that a star follows in the
// tree of ARCHITECTURE.md.
func Promised(architecture string) (folders []string) {
	_, after, _ := strings.Cut(architecture, "\n## The tree\n")
	parts := strings.SplitN(after, "```", 3)
	if len(parts) < 3 {
		return nil
	}
	for _, line := range strings.Split(parts[1], "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "*" && strings.HasSuffix(f[0], "/") {
			folders = append(folders, strings.TrimSuffix(f[0], "/"))
		}
	}
	return folders
}

// API returns what a package promises, a line for each exported name, in order: constants,
// variables, functions, methods of exported types, types, and their exported fields and methods.
// Values, bodies, comments and names of parameters are no part of it. The key of sources is a file's name.
func API(pkg string, sources map[string][]byte) ([]string, error) {
	a := api{pkg: pkg}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		file, err := parser.ParseFile(token.NewFileSet(), name, sources[name], parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				a.function(d)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					a.spec(d.Tok, s)
				}
			}
		}
	}
	slices.Sort(a.lines)
	return slices.Compact(a.lines), nil
}

type api struct {
	pkg   string
	lines []string
}

func (a *api) add(format string, args ...any) {
	a.lines = append(a.lines, "package "+a.pkg+", "+fmt.Sprintf(format, args...))
}

func (a *api) function(d *ast.FuncDecl) {
	if !d.Name.IsExported() {
		return
	}
	if d.Recv == nil {
		a.add("func %s%s", d.Name, signature(d.Type))
		return
	}
	receiver := text(d.Recv.List[0].Type)
	base, _, _ := strings.Cut(strings.TrimPrefix(receiver, "*"), "[")
	if ast.IsExported(base) {
		a.add("method (%s) %s%s", receiver, d.Name, signature(d.Type))
	}
}

func (a *api) spec(tok token.Token, s ast.Spec) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() {
				a.add("%s", strings.TrimSpace(fmt.Sprintf("%s %s %s", tok, name, text(s.Type))))
			}
		}
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			a.typed(s)
		}
	}
}

func (a *api) typed(s *ast.TypeSpec) {
	name := s.Name.Name
	switch t := s.Type.(type) {
	case *ast.StructType:
		a.add("type %s%s struct", name, parameters(s.TypeParams))
		a.members(name, t.Fields)
	case *ast.InterfaceType:
		a.add("type %s%s interface", name, parameters(s.TypeParams))
		a.members(name, t.Methods)
	default:
		is := " "
		if s.Assign.IsValid() {
			is = " = "
		}
		a.add("type %s%s%s%s", name, parameters(s.TypeParams), is, text(s.Type))
	}
}

// members are the exported fields of a struct, or the methods of an interface.
func (a *api) members(of string, list *ast.FieldList) {
	for _, f := range list.List {
		if len(f.Names) == 0 {
			a.add("type %s: %s", of, text(f.Type))
		}
		for _, n := range f.Names {
			if t, ok := f.Type.(*ast.FuncType); ok && n.IsExported() {
				a.add("type %s: %s func%s", of, n, signature(t))
			} else if n.IsExported() {
				a.add("type %s: %s %s", of, n, text(f.Type))
			}
		}
	}
}

// signature is a function's types, without the names of its parameters.
func signature(t *ast.FuncType) string {
	result := types(t.Results)
	switch len(result) {
	case 0:
	case 1:
		return parameters(t.TypeParams) + "(" + strings.Join(types(t.Params), ", ") + ") " + result[0]
	default:
		return parameters(t.TypeParams) + "(" + strings.Join(types(t.Params), ", ") + ") (" + strings.Join(result, ", ") + ")"
	}
	return parameters(t.TypeParams) + "(" + strings.Join(types(t.Params), ", ") + ")"
}

func types(list *ast.FieldList) (all []string) {
	if list == nil {
		return nil
	}
	for _, f := range list.List {
		for range max(1, len(f.Names)) {
			all = append(all, text(f.Type))
		}
	}
	return all
}

func parameters(list *ast.FieldList) string {
	if list == nil {
		return ""
	}
	var all []string
	for _, f := range list.List {
		for _, n := range f.Names {
			all = append(all, n.Name+" "+text(f.Type))
		}
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// text is an expression on one line.
func text(e ast.Expr) string {
	if e == nil {
		return ""
	}
	if t, ok := e.(*ast.FuncType); ok {
		return "func" + signature(t)
	}
	var b bytes.Buffer
	if err := printer.Fprint(&b, token.NewFileSet(), e); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
