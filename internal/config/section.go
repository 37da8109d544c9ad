package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"postern/guard"
	"postern/internal/plaintext"
	"postern/internal/problem"
)

// A word is one attribute of a block, for the reader and for the reference.
type word struct {
	name string
	what string // kind of value: text, list, number, size, rate, time, ...
	def  string // what holds without it; "" where it is needed or means none
	says string
}

// A block is one kind of section.
type block struct {
	name  string
	label string // what its label names; "" for none
	many  bool
	says  string
	words []word
	in    []*block // blocks within it
	read  func(r *reader, s section)
}

func (b *block) names() []string {
	var all []string
	for _, w := range b.words {
		all = append(all, w.name)
	}
	for _, each := range b.in {
		all = append(all, each.name)
	}
	return all
}

// A section is one block of the file, checked for unknown words.
type section struct {
	r     *reader
	block *block
	label string
	at    problem.Pos
	body  *hclsyntax.Body
}

// A value is a word of the file and where it stands.
type value struct {
	text string
	at   problem.Pos
}

func (r *reader) pos(g hcl.Range) problem.Pos {
	return problem.Pos{File: r.name(g.Filename), Line: g.Start.Line, Column: g.Start.Column}
}

// section checks a block's labels and words and reads it.
func (r *reader) section(b *block, h *hclsyntax.Block) {
	s := section{r: r, block: b, at: r.pos(h.DefRange()), body: h.Body}
	switch {
	case b.label != "" && len(h.Labels) != 1:
		r.stop(s.at, fmt.Sprintf("block %s needs a name", b.name), fmt.Sprintf(`write %s "%s" { ... }`, b.name, b.label))
		return
	case b.label == "" && len(h.Labels) > 0:
		r.stop(s.at, fmt.Sprintf("block %s takes no name", b.name), fmt.Sprintf("write %s { ... }", b.name))
		return
	case b.label != "":
		s.label = h.Labels[0]
	}
	if !b.many && r.seen[b.name] {
		r.stop(s.at, fmt.Sprintf("block %s stands twice", b.name), "join the two")
		return
	}
	r.seen[b.name] = true
	r.words(b, h.Body)
	b.read(r, s)
}

// words refuses what a block does not know.
func (r *reader) words(b *block, body *hclsyntax.Body) {
	var names []string
	for name := range body.Attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if slices.ContainsFunc(b.words, func(w word) bool { return w.name == name }) {
			continue
		}
		at := r.pos(body.Attributes[name].NameRange)
		if why, do, known := trap(b.name, name); known {
			r.stop(at, why, do)
			continue
		}
		r.stop(at, fmt.Sprintf("unknown word %q in %s", name, b.name), problem.Meant(name, b.names()))
	}
	for _, inner := range body.Blocks {
		if !slices.ContainsFunc(b.in, func(k *block) bool { return k.name == inner.Type }) {
			at := r.pos(inner.TypeRange)
			if why, do, known := trap(b.name, inner.Type); known {
				r.stop(at, why, do)
				continue
			}
			r.stop(at, fmt.Sprintf("unknown block %q in %s", inner.Type, b.name), problem.Meant(inner.Type, b.names()))
		}
	}
}

// each reads the blocks of a kind within the section.
func (s section) each(name string, read func(section)) {
	for _, h := range s.body.Blocks {
		if h.Type != name {
			continue
		}
		i := slices.IndexFunc(s.block.in, func(k *block) bool { return k.name == name })
		b := *s.block.in[i]
		b.read = func(_ *reader, inner section) { read(inner) }
		s.r.section(&b, h)
	}
}

// texts reads a list of texts, or one text as a list of one. file("name")
// stands for the lines of a file.
func (s section) texts(name string) []value {
	a := s.body.Attributes[name]
	if a == nil {
		return nil
	}
	switch e := a.Expr.(type) {
	case *hclsyntax.TupleConsExpr:
		var all []value
		for _, each := range e.Exprs {
			if v, ok := s.r.text(each, name); ok {
				all = append(all, v)
			}
		}
		return all
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "file" {
			return s.r.lines(e)
		}
	}
	if v, ok := s.r.text(a.Expr, name); ok {
		return []value{v}
	}
	return nil
}

// text reads one text; false when it is not given or is none.
func (s section) text(name string) (value, bool) {
	a := s.body.Attributes[name]
	if a == nil {
		return value{at: s.at}, false
	}
	return s.r.text(a.Expr, name)
}

func (r *reader) text(e hclsyntax.Expression, name string) (value, bool) {
	v := value{at: r.pos(e.Range())}
	if call, ok := e.(*hclsyntax.FunctionCallExpr); ok {
		return r.call(call, v.at)
	}
	result, diags := e.Value(nil)
	switch {
	case diags.HasErrors():
		r.stop(v.at, fmt.Sprintf("%s: %s", name, strings.TrimSuffix(diags[0].Detail, ".")), `a text stands in quotes; write $${ for the characters ${`)
		return v, false
	case result.IsNull() || !result.IsKnown():
	case result.Type() == cty.String:
		v.text = result.AsString()
		return v, true
	case result.Type() == cty.Number && result.AsBigFloat().MantExp(nil) <= 64 && result.AsBigFloat().MantExp(nil) >= -64:
		v.text = result.AsBigFloat().Text('f', -1)
		return v, true
	case result.Type() == cty.Number: // 1e99999999 would be written out digit by digit
		r.stop(v.at, name+" is a number out of all proportion", "write one of at most 18 digits")
		return v, false
	case result.Type() == cty.Bool:
		v.text = strconv.FormatBool(result.True())
		return v, true
	}
	r.stop(v.at, fmt.Sprintf("%s is no text", name), `write it in quotes, as "..."`)
	return v, false
}

// call evaluates the two functions that there are.
func (r *reader) call(e *hclsyntax.FunctionCallExpr, at problem.Pos) (value, bool) {
	switch {
	case e.Name != "env" && e.Name != "file":
		r.stop(at, fmt.Sprintf("unknown function %s", e.Name), `there are file("name") and env("NAME")`)
	case len(e.Args) != 1:
		r.stop(at, e.Name+" takes one name", fmt.Sprintf(`write %s("name")`, e.Name))
	case e.Name == "file":
		r.stop(at, "file stands for a list of lines", "write the text itself here")
	default:
		if name, ok := r.text(e.Args[0], e.Name); ok {
			text, set := os.LookupEnv(name.text)
			if !set {
				r.stop(at, fmt.Sprintf("the environment has no %s", name.text), "set it, or write the text itself")
				return value{at: at}, false
			}
			return value{text, at}, true
		}
	}
	return value{at: at}, false
}

// lines reads a file of one entry a line; # begins a comment.
func (r *reader) lines(e *hclsyntax.FunctionCallExpr) []value {
	at := r.pos(e.Range())
	if len(e.Args) != 1 {
		r.stop(at, "file takes one name", `write file("name")`)
		return nil
	}
	name, ok := r.text(e.Args[0], "file")
	if !ok {
		return nil
	}
	path := name.text
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.path), path)
	}
	r.settings.Files = append(r.settings.Files, path)
	text, err := plaintext.ReadFile(path)
	if err != nil {
		r.stop(at, fmt.Sprintf("file %s: %v", name.text, err), "name a file that this user can read; it is looked for beside the configuration")
		return nil
	}
	_, _ = r.hash.Write(text) // never fails
	var all []value
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, value{line, problem.Pos{File: path, Line: i + 1, Column: 1}})
		}
	}
	return all
}

// number, rate, size and the like read one value by its rule; nothing is set
// when it is not given.

func (s section) number(name string, set func(int)) {
	if v, ok := s.text(name); ok {
		n, err := strconv.Atoi(v.text)
		if err != nil || n < 1 {
			s.r.stop(v.at, fmt.Sprintf("%s: %q is no number from 1", name, v.text), "write a number, as 100")
			return
		}
		set(n)
	}
}

func (s section) rate(name string, set func(guard.Rate)) {
	if v, ok := s.text(name); ok {
		rate, err := guard.ParseRate(v.text)
		if err != nil {
			s.r.stop(v.at, fmt.Sprintf("%s: %v", name, err), "")
			return
		}
		set(rate)
	}
}

var units = []struct {
	name string
	n    int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

func parseSize(s string) (int64, bool) {
	for _, u := range units {
		if text, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return n * u.n, err == nil && n > 0 && n <= (1<<62)/u.n
		}
	}
	return 0, false
}

func (s section) size(name string, set func(int64)) {
	if v, ok := s.text(name); ok {
		n, ok := parseSize(v.text)
		if !ok {
			s.r.stop(v.at, fmt.Sprintf("%s: %q is no size", name, v.text), "write it as 25MiB, with KiB, MiB or GiB")
			return
		}
		set(n)
	}
}

// sizeRate reads a size in a time, as 2GiB/d, of which the units are named.
func (s section) sizeRate(name string, units []string, example string, set func(guard.Rate)) {
	v, ok := s.text(name)
	if !ok {
		return
	}
	text, unit, found := strings.Cut(v.text, "/")
	n, sized := parseSize(text)
	per, err := guard.ParseRate("1/" + unit)
	if !found || !sized || err != nil || !slices.Contains(units, unit) {
		what := "a day"
		if len(units) > 1 {
			what = "a time"
		}
		s.r.stop(v.at, fmt.Sprintf("%s: %q is no size %s", name, v.text, what), "write it as "+example)
		return
	}
	set(guard.Rate{N: n, Per: per.Per})
}

func (s section) duration(name string, set func(time.Duration)) {
	if v, ok := s.text(name); ok {
		d, err := time.ParseDuration(v.text)
		if days, ok := strings.CutSuffix(v.text, "d"); ok {
			var n int
			n, err = strconv.Atoi(days)
			d = time.Duration(n) * 24 * time.Hour
		}
		if err != nil || d < 0 || d > 10*366*24*time.Hour {
			s.r.stop(v.at, fmt.Sprintf("%s: %q is no time", name, v.text), "write it as 500ms, 30s, 5m, 6h or 5d")
			return
		}
		set(d)
	}
}

// one reads a word out of a list of allowed ones.
func (s section) one(name string, allowed []string, set func(string)) {
	if v, ok := s.text(name); ok {
		if !slices.Contains(allowed, v.text) {
			s.r.stop(v.at, fmt.Sprintf("%s: unknown value %q", name, v.text), problem.Meant(v.text, allowed))
			return
		}
		set(v.text)
	}
}

// network reads an address or a prefix.
func (r *reader) network(v value, name string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(v.text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(v.text)
	if err != nil {
		r.stop(v.at, fmt.Sprintf("%s: %q is no address and no network", name, v.text), "write 192.0.2.7, 192.0.2.0/28 or 2001:db8::7")
		return p, false
	}
	return p, true
}
