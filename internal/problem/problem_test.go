package problem

import (
	"errors"
	"fmt"
	"testing"
)

func TestError(t *testing.T) {
	at := Pos{File: "postern.hcl", Line: 12, Column: 18}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"all of it", At(at, "0.0.0.0/0 trusts everybody", "name single hosts"), "postern.hcl:12:18: 0.0.0.0/0 trusts everybody; name single hosts"},
		{"no column", At(Pos{File: "f", Line: 3}, "what", ""), "f:3: what"},
		{"no line", At(Pos{File: "f"}, "what", "do"), "f: what; do"},
		{"no place", At(Pos{}, "what", "do"), "what; do"},
		{"a warning", Warn(at, "what", "do"), "postern.hcl:12:18: warning: what; do"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAllAndSplit(t *testing.T) {
	stop, warn := At(Pos{}, "one", ""), Warn(Pos{}, "two", "")
	err := errors.Join(stop, errors.Join(fmt.Errorf("reading: %w", warn)), errors.New("three"))
	all := All(err)
	if len(all) != 3 || !errors.Is(all[0], stop) || !errors.Is(all[1], warn) || all[2].What != "three" {
		t.Errorf("All = %v", all)
	}
	fatal, warnings := Split(err)
	if fatal == nil || fatal.Error() != "one\nthree" || warnings == nil || warnings.Error() != "warning: two" {
		t.Errorf("Split = %v, %v", fatal, warnings)
	}
	if fatal, warnings = Split(nil); fatal != nil || warnings != nil {
		t.Errorf("Split(nil) = %v, %v", fatal, warnings)
	}
}
