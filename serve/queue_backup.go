package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"postern/internal/problem"
	"postern/internal/queue"
	"postern/internal/queue/pebble"
	"postern/internal/state"
)

// backups is the folder in the state folder where a relay puts the copies that
// are asked for. It reaches no other: who asks copies from there to where it is
// to be, and has it removed.
const backups = "backups"

// A Backup is a copy of the queue as it was at one moment.
type Backup struct {
	Name string `json:"name"` // within the state folder
}

// A backuper is a queue that can be copied while it is used.
type backuper interface {
	Backup(ctx context.Context, dir string) error
}

func (r *Relay) handleBackups(mux *http.ServeMux) {
	mux.HandleFunc("POST /queue/backup", func(w http.ResponseWriter, q *http.Request) {
		b, err := r.backup(q.Context())
		answer(w, b, err)
	})
	mux.HandleFunc("POST /queue/backup/done", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, struct{}{}, os.RemoveAll(r.o.State.Join(backups)))
	})
}

// backup makes a copy. An earlier one that nobody has removed is: it keeps
// files of the queue that would be gone otherwise.
func (r *Relay) backup(ctx context.Context) (Backup, error) {
	q, ok := r.queue.(backuper)
	if !ok {
		return Backup{}, errors.New("this engine has a backup of its own; see its manual")
	}
	dir := r.o.State.Join(backups)
	if err := os.RemoveAll(dir); err != nil {
		return Backup{}, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return Backup{}, err
	}
	b := Backup{filepath.Join(backups, queue.NewID())}
	return b, q.Backup(ctx, r.o.State.Join(b.Name))
}

// VerifyQueue reads every record and octet of a queue that no relay has open:
// that of a state folder, or a backup.
func VerifyQueue(ctx context.Context, dir string) (pebble.Sum, error) {
	return pebble.Verify(ctx, pebble.Options{Dir: dir})
}

// SalvageQueue copies all that can be read of a queue that no relay has open
// into a new one.
func SalvageQueue(ctx context.Context, dir, into string) (pebble.Salvaged, error) {
	return pebble.Salvage(ctx, pebble.Options{Dir: dir}, into)
}

// QueueIn returns where the queue is in a folder: a state folder, or a backup.
func QueueIn(dir string) string {
	if in := filepath.Join(dir, "queue"); isFolder(in) {
		return in
	}
	return dir
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// RestoreQueue puts a backup in the place of a state folder's queue. What was
// there is moved beside it, and its path returned; "": nothing was.
func RestoreQueue(ctx context.Context, folder *state.Folder, backup string, now time.Time) (old string, err error) {
	dir := folder.Join("queue")
	if err := whole(ctx, backup); err != nil {
		return "", err
	}
	if isFolder(dir) {
		old = dir + now.Format("-before-2006-01-02T15.04.05")
		for n, name := 2, old; isThere(old); n++ { // another one within the second
			old = fmt.Sprintf("%s-%d", name, n)
		}
		if err := os.Rename(dir, old); err != nil {
			return "", err
		}
	}
	err = pebble.Restore(ctx, pebble.Options{Dir: dir}, backup)
	if err != nil && old != "" {
		return "", errors.Join(err, os.RemoveAll(dir), os.Rename(old, dir))
	}
	return old, err
}

func whole(ctx context.Context, dir string) error {
	sum, err := VerifyQueue(ctx, dir)
	if err == nil && len(sum.Faults) > 0 {
		err = problem.At(problem.Pos{File: dir}, fmt.Sprintf("the backup is not whole: %v", errors.Join(sum.Faults...)), "restore another one; nothing was changed")
	}
	return err
}
