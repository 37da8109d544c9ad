package main

import (
	"encoding"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/doctor"
	"postern/policy"
	"postern/serve"
	"postern/verdict"
)

// facts are what commands print with --json, by the command; docs/schemas has a
// schema of each that is made of these types. The report of check has
// a schema of its own in docs.
var facts = map[string]any{
	"check-list-forms": []formFact{},
	"collect":          verdict.Arrival{},
	"config-check":     checkFact{},
	"config-show":      []settingFact{},
	"doctor":           []doctor.Finding{},
	"lab-list":         []specimenFact{},
	"explain":          []explained{},
	"prove":            policy.Proof{},
	"queue-change":     serve.Batch{},
	"queue-list":       serve.QueuePage{},
	"queue-show":       serve.QueuedMessage{},
	"release":          []serve.HeldBatch{},
	"top":              serve.Top{},
	"trace":            serve.Trace{},
	"trace-tunnel":     serve.TunnelTrace{},
	"traffic":          serve.TrafficPage{},
	"user-list":        []listedUser{},
	"user-locked":      serve.LockedLogins{}.Locked,
	"version":          build{},
}

var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// A shaper makes JSON schemas of Go types.
type shaper struct {
	t    *testing.T
	seen []reflect.Type // that are being made, against circles
}

type shape map[string]any

var (
	timeType      = reflect.TypeFor[time.Time]()
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func (s *shaper) of(path string, t reflect.Type) shape {
	switch {
	case t == timeType:
		return shape{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[time.Duration]():
		return shape{"type": "integer", "description": "nanoseconds"}
	case t.Kind() == reflect.Pointer:
		return s.of(path, t.Elem())
	case t.Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(jsonMarshaler):
		return s.shown(path, reflect.New(t).Interface())
	case t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler):
		return shape{"type": "string"}
	}
	switch t.Kind() { //nolint:exhaustive // all others have no place in JSON
	case reflect.String:
		return shape{"type": "string"}
	case reflect.Bool:
		return shape{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return shape{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return shape{"type": "number"}
	case reflect.Slice, reflect.Array:
		return shape{"type": []string{"array", "null"}, "items": s.of(path+"[]", t.Elem())}
	case reflect.Map:
		return shape{"type": []string{"object", "null"}, "additionalProperties": s.of(path+"{}", t.Elem())}
	case reflect.Struct:
		return s.object(path, t)
	default:
		s.t.Errorf("%s: a %s has no place in JSON", path, t)
		return shape{}
	}
}

func (s *shaper) object(path string, t reflect.Type) shape {
	if slices.Contains(s.seen, t) {
		return shape{"type": "object"} // it holds its own kind
	}
	s.seen = append(s.seen, t)
	defer func() { s.seen = s.seen[:len(s.seen)-1] }()
	properties, required := shape{}, []string{}
	s.fields(path, t, properties, &required)
	slices.Sort(required)
	return shape{"type": "object", "properties": properties, "required": required}
}

func (s *shaper) fields(path string, t reflect.Type, properties shape, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			s.fields(path, inner, properties, required)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if !snake.MatchString(name) {
			s.t.Errorf("%s: field %s is called %q in JSON; want words in small letters with underscores", path, f.Name, name)
		}
		left := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if f.Type == timeType && !strings.Contains(options, "omitzero") && !alwaysSet[t.Name()+"."+f.Name] {
			s.t.Errorf("%s: %s.%s may be printed as the year 1; give it omitzero", path, t.Name(), f.Name)
		}
		properties[name] = s.of(path+"."+name, f.Type)
		if !left {
			*required = append(*required, name)
		}
	}
}

// shown is the schema of what writes its own JSON, by what it writes.
func (s *shaper) shown(path string, v any) shape {
	text, err := json.Marshal(v)
	var any any
	if err == nil {
		err = json.Unmarshal(text, &any)
	}
	if err != nil {
		s.t.Errorf("%s: %v", path, err)
	}
	return s.like(path, any)
}

func (s *shaper) like(path string, v any) shape {
	switch v := v.(type) {
	case string:
		return shape{"type": "string"}
	case bool:
		return shape{"type": "boolean"}
	case float64:
		return shape{"type": "number"}
	case []any:
		return shape{"type": "array"}
	case map[string]any:
		properties := shape{}
		for name, value := range v {
			if !snake.MatchString(name) {
				s.t.Errorf("%s: %q is no name in small letters with underscores", path, name)
			}
			properties[name] = s.like(path+"."+name, value)
		}
		return shape{"type": "object", "properties": properties}
	}
	return shape{}
}

// alwaysSet are times that are never zero.
var alwaysSet = map[string]bool{
	"Breakout.Since": true, "Breakout.Last": true, "Locked.Since": true, "Locked.Until": true, "Arrival.At": true, "Top.At": true,
	"Suspension.Since": true, "Headerless.Last": true, "Trace.Accepted": true, "TraceEvent.At": true, "Token.Created": true,
	"TunnelTrace.Asked": true, "Report.From": true, "Report.Until": true,
}

// What a command prints with --json has names in one style, no time that is
// none, and a schema in docs/schemas that is up to date.
func TestFactsHaveSchemas(t *testing.T) {
	for name, v := range facts {
		s := &shaper{t: t}
		root := s.of(name, reflect.TypeOf(v))
		root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		root["title"] = "postern " + strings.ReplaceAll(name, "-", " ") + " --json"
		root["description"] = "Made of the program's types. Fields are added, never changed or taken away: a reader ignores what it does not know."
		text, err := json.MarshalIndent(root, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		path := filepath.Join("../../docs/schemas", name+".json")
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if is, err := os.ReadFile(path); err != nil || string(is) != string(text) {
			t.Errorf("%s is stale (%v); write it anew with: go test ./cmd/postern -run Facts -update", path, err)
		}
	}
	list, err := os.ReadDir("../../docs/schemas")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if name := strings.TrimSuffix(e.Name(), ".json"); facts[name] == nil {
			t.Errorf("docs/schemas/%s describes nothing that is printed", e.Name())
		}
	}
}
