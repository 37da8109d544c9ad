package serve

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/queue/pebble"
	"postern/internal/state"
)

// Two restores within one second keep both queues that they replace.
func TestTwoRestoresWithinASecond(t *testing.T) {
	folder := must(state.Open(filepath.Join(t.TempDir(), "s")))
	defer func() { must(0, folder.Close()) }()
	q := must(pebble.Open(pebble.Options{Dir: folder.Join("queue")}))
	backup := filepath.Join(t.TempDir(), "backup")
	if err := errors.Join(q.Backup(t.Context(), backup), q.Close()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	first := must(RestoreQueue(t.Context(), folder, backup, now))
	second := must(RestoreQueue(t.Context(), folder, backup, now))
	if first == "" || first == second || !isFolder(first) || !isFolder(second) || !isFolder(folder.Join("queue")) {
		t.Errorf("kept %q and %q", first, second)
	}
}
