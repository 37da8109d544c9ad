package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew; read the diff")

// The goldens hold each fixture as text; a few of them as the other formats
// too, because these have no layout that could go wrong elsewhere.
func TestGoldens(t *testing.T) {
	all := fixtures()
	for name, r := range all {
		golden(t, name+".txt", func(w io.Writer) error { return WriteText(w, r, TextOptions{Flags: "--i-own"}) })
	}
	golden(t, "two-holes.transcript.txt", func(w io.Writer) error {
		return WriteText(w, all["two-holes"], TextOptions{Transcript: "local-sender"})
	})
	few := []Report{all["open-over-six"], all["backscatter"], all["no-such-name"]}
	golden(t, "few.junit.xml", func(w io.Writer) error { return WriteJUnit(w, few) })
	golden(t, "few.sarif", func(w io.Writer) error { return WriteSARIF(w, few, "0.1.0") })
	golden(t, "one.json", func(w io.Writer) error { return writeReadable(w, few) })
}

// writeReadable writes the folded objects indented, each port with its first
// two forms alone: a diff of one long line is read by nobody.
func writeReadable(w io.Writer, reports []Report) error {
	var lines bytes.Buffer
	if err := WriteJSON(&lines, reports, true); err != nil {
		return err
	}
	in, out := json.NewDecoder(&lines), json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	for in.More() {
		var o jsonReport
		if err := in.Decode(&o); err != nil {
			return err
		}
		for i := range o.Doors {
			o.Doors[i].Forms = o.Doors[i].Forms[:min(2, len(o.Doors[i].Forms))]
		}
		if err := out.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

func golden(t *testing.T, name string, write func(io.Writer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: got\n%s\nwant\n%s\nto take it over: go test ./report -update", name, &got, want)
	}
}
