package config

import (
	"fmt"
	"os"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"postern/internal/problem"
)

// A Setting is one word in force and where it comes from.
type Setting struct {
	Block, Word string
	Value       string // as it is written, or the default
	At          string // file:line, or "default"
}

// Show lists every word of a file that loads, those that were not written with
// their defaults.
func Show(path string) ([]Setting, error) {
	if _, err := Load(path); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, diags := hclparse.NewParser().ParseHCL(text, path)
	if diags.HasErrors() {
		return nil, diags
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return nil, problem.At(problem.Pos{File: path}, "no HCL of native syntax", "")
	}
	v := &shower{path: path, text: text}
	v.block("", &top, body)
	for _, b := range blocks {
		found := false
		for _, h := range body.Blocks {
			if h.Type == b.name {
				found = true
				v.block(titled(b, h), b, h.Body)
			}
		}
		if !found && !b.many {
			v.block(b.name, b, &hclsyntax.Body{})
		}
	}
	return v.list, nil
}

type shower struct {
	path string
	text []byte
	list []Setting
}

func titled(b *block, h *hclsyntax.Block) string {
	if len(h.Labels) > 0 {
		return fmt.Sprintf("%s %q", b.name, h.Labels[0])
	}
	return b.name
}

func (v *shower) block(title string, b *block, body *hclsyntax.Body) {
	for _, w := range b.words {
		s := Setting{Block: title, Word: w.name, Value: w.def, At: "default"}
		if a := body.Attributes[w.name]; a != nil {
			g := a.Expr.Range()
			s.Value, s.At = v.source(g), fmt.Sprintf("%s:%d", v.path, g.Start.Line)
		}
		v.list = append(v.list, s)
	}
	for _, h := range body.Blocks {
		if i := slices.IndexFunc(b.in, func(k *block) bool { return k.name == h.Type }); i >= 0 {
			v.block(title+" "+titled(b.in[i], h), b.in[i], h.Body)
		}
	}
}

func (v *shower) source(g hcl.Range) string { return string(g.SliceBytes(v.text)) }

// Format writes a configuration in its one form; comments stay.
func Format(text []byte) []byte { return hclwrite.Format(text) }
