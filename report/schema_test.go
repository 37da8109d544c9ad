package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// What is written must fit the published schema, and the schema must describe
// all that is written: of what it does not know nobody could rely on.
func TestJSONFitsItsSchema(t *testing.T) {
	text, err := os.ReadFile("../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	for name, r := range fixtures() {
		for _, one := range []bool{false, true} {
			var out bytes.Buffer
			if err := WriteJSON(&out, []Report{r}, one); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if want := max(1, len(r.Addresses)); !one && len(lines) != want || one && len(lines) != 1 {
				t.Errorf("%s (one %v): %d objects", name, one, len(lines))
			}
			for _, line := range lines {
				var v any
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for _, fault := range root.check(root, "$", v) {
					t.Errorf("%s: %s", name, fault)
				}
			}
		}
	}
}

// The checker itself must find faults, or the test above proves nothing.
func TestSchemaCheckerFindsFaults(t *testing.T) {
	text, err := os.ReadFile("../docs/report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteJSON(&out, []Report{fixtures()["open-postfix"]}, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(o map[string]any)
		want   string
	}{
		{"a missing field", func(o map[string]any) { delete(o, "why") }, "$.why: missing"},
		{"an unknown verdict", func(o map[string]any) { o["verdict"] = "ajar" }, "$.verdict: ajar"},
		{"another version", func(o map[string]any) { o["postern_report"] = 2.0 }, "$.postern_report: 2"},
		{"another type", func(o map[string]any) { o["tested"] = "all" }, "$.tested: all is no number"},
		{"a share above one", func(o map[string]any) { o["tested"] = 1.5 }, "$.tested: 1.5"},
		{"a field that nobody described", func(o map[string]any) { o["extra"] = 1.0 }, "$.extra: not described"},
	} {
		var o map[string]any
		if err := json.Unmarshal(out.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		c.change(o)
		if faults := root.check(root, "$", o); len(faults) != 1 || !strings.HasPrefix(faults[0], c.want) {
			t.Errorf("%s: got %q, want %q", c.name, faults, c.want)
		}
	}
}

// A schema is as much of JSON Schema as the file uses.
type schema struct {
	Ref        string            `json:"$ref"`
	Defs       map[string]schema `json:"$defs"`
	Type       any               `json:"type"`
	Const      any               `json:"const"`
	Enum       []any             `json:"enum"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	Minimum    *float64          `json:"minimum"`
	Maximum    *float64          `json:"maximum"`
}

func (s schema) check(root schema, at string, v any) []string {
	if s.Ref != "" {
		return root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")].check(root, at, v)
	}
	switch {
	case s.Type != nil && !typed(s.Type, v):
		return []string{fmt.Sprintf("%s: %v is no %v", at, v, s.Type)}
	case s.Const != nil && s.Const != v:
		return []string{fmt.Sprintf("%s: %v, want %v", at, v, s.Const)}
	case s.Enum != nil && !slices.Contains(s.Enum, v):
		return []string{fmt.Sprintf("%s: %v, want one of %v", at, v, s.Enum)}
	}
	var faults []string
	switch v := v.(type) {
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			faults = append(faults, fmt.Sprintf("%s: %v is out of range", at, v))
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				faults = append(faults, at+"."+name+": missing")
			}
		}
		for name, field := range v {
			p, ok := s.Properties[name]
			if !ok {
				faults = append(faults, at+"."+name+": not described")
				continue
			}
			faults = append(faults, p.check(root, at+"."+name, field)...)
		}
	case []any:
		for i, item := range v {
			if s.Items != nil {
				faults = append(faults, s.Items.check(root, fmt.Sprintf("%s[%d]", at, i), item)...)
			}
		}
	}
	return faults
}

func typed(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return typed(w, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}
