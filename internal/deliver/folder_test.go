package deliver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/maildir"
)

func TestStoresInFolders(t *testing.T) {
	dir := t.TempDir()
	bubble(t, nil, func(w *world) {
		w.ways.Ours["ours.example"] = Route{Name: "ours.example", Kind: ToMaildir, Folder: must(maildir.ParseTemplate(dir + "/{domain}/{local}"))}
		w.send("<anna@ours.example>", "<anna@ours.example>", "<ben@ours.example>")
		after(time.Second)
		if left := w.left(); len(left) != 0 {
			t.Fatalf("left: %v, %v", left, w.events())
		}
		for _, who := range []string{"anna", "ben"} {
			files, err := filepath.Glob(filepath.Join(dir, "ours.example", who, "new", "*"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%s has %v (%v)", who, files, err)
			}
			got, err := os.ReadFile(files[0])
			want := "Return-Path: <anna@ours.example>\nDelivered-To: " + who + "@ours.example\n" + strings.ReplaceAll(text, "\r\n", "\n")
			if err != nil || string(got) != want {
				t.Errorf("%s has %q (%v), want %q", who, got, err, want)
			}
		}
	})
}

func TestFolderThatIsNotThere(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.ways.Ours["ours.example"] = Route{Name: "ours.example", Kind: ToMaildir, Folder: must(maildir.ParseTemplate("/nowhere/at/all/{local}"))}
		w.send("<anna@ours.example>", "<anna@ours.example>")
		after(time.Second)
		if left := w.left(); len(left) != 1 || left[0] != "anna@ours.example waiting" {
			t.Errorf("left: %v, %v", left, w.events())
		}
	})
}
