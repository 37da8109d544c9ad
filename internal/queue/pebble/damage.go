package pebble

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	lib "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern/internal/problem"
)

// salvageAdvice is what to do about a store that is damaged. It can be done
// with a store that no relay opens.
const salvageAdvice = "no file was changed or removed: \"postern queue salvage --out FOLDER\" copies all that can be read into a new queue, and says what cannot; or restore a backup"

// madeName returns the name of the file beside the store's folder which says
// that there was a store. Where it is, an empty one is never made again.
func madeName(dir string) string { return dir + ".made" }

func wasMade(f vfs.FS, dir string) (bool, error) {
	_, err := f.Stat(madeName(dir))
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

func damaged(dir, what string) error {
	return problem.At(problem.Pos{File: dir}, what, salvageAdvice)
}

// A survey is what was found in a store's folder before anything may be changed.
type survey struct {
	*folder
	made  bool     // there was a store
	fresh bool     // there is none, and may be one
	id    [16]byte // of the store; zero: it has none yet
}

// survey looks whether there is a store, whether it is the one of this id, if
// that is known, and whether it holds all that it must. What can be mended
// without a loss is mended and reported; nothing else is changed.
func (s *store) survey(o Options, known [16]byte) (v survey, err error) {
	again := known != [16]byte{}
	if v.folder, err = look(s.fence, o.Dir); err != nil {
		return v, err
	}
	if v.made, err = wasMade(s.fence, o.Dir); err != nil {
		return v, err
	}
	if !v.any() {
		if v.made || again {
			return v, problem.At(problem.Pos{File: o.Dir}, "the queue is gone: the folder is missing or empty, and there was one",
				"bring it back (is the disk mounted?) or restore a backup; if it was taken away on purpose, remove "+madeName(o.Dir))
		}
		v.fresh = true
		return v, nil
	}
	if s.lock, err = lib.LockDirectory(o.Dir, s.fence); err != nil {
		return v, err
	}
	list, err := v.repairs()
	if err == nil {
		err = v.mend(list)
	}
	for _, r := range list {
		o.Report(problem.At(problem.Pos{File: o.Dir}, "the queue's store was damaged and is mended: "+r.why, "nothing was lost; look at the disk"))
	}
	if err != nil {
		return v, err
	}
	err = v.examine(o, s.lock, again, known)
	return v, err
}

// examine opens the store to be read only, so that the library cannot change
// or remove anything, and compares it with its ledger.
func (v *survey) examine(o Options, lock *lib.Lock, again bool, known [16]byte) (err error) {
	db, err := openAt(v.fs, o.Dir, lock)
	if errors.Is(err, lib.ErrDBDoesNotExist) && !v.made && !v.ledger && len(v.manifests)+len(v.tables)+len(v.blobs) == 0 {
		v.fresh = true // its making was cut off
		return nil
	}
	if err != nil {
		return v.explain(err)
	}
	defer func() { err = errors.Join(err, closeDB(db)) }()
	format, err := formatOf(db)
	if err != nil {
		return v.explain(err)
	}
	if format == 0 {
		return v.formless(db)
	}
	if err := v.ends(db); err != nil {
		return v.explain(err)
	}
	if newest := uint64(len(formats)) + 1; format > newest {
		return tooNew(o.Dir, format, newest)
	}
	a, err := readLedger(v.fs, v.fs.PathJoin(v.dir, ledgerName))
	if isMissing(err) && !again {
		return v.unbooked(o, db, format)
	}
	if err != nil {
		return err
	}
	if v.id = a.id; len(a.faults) > 0 && !v.booked() {
		v.id = known
	}
	if again && v.id != known {
		return damaged(o.Dir, "there is another store in the place of the queue")
	}
	if len(a.faults) > 0 {
		o.Report(problem.At(problem.Pos{File: o.Dir}, "the ledger of the queue is damaged, and is made anew from what is there: "+some(a.faults),
			"look at the disk; the damaged one stays beside the new one"))
		if err := v.setAside(ledgerName); err != nil {
			return err
		}
	}
	b, err := a.compare(db)
	if err != nil {
		return v.explain(err)
	}
	if len(b.unsure) > 0 {
		o.Report(problem.Warn(problem.Pos{File: o.Dir}, fmt.Sprintf("%s coming in when the relay was stopped, and not kept: %s",
			were(len(b.unsure)), some(b.unsure)), "nobody was answered 250 unless the machine lost its power at that moment; then look for these in the log"))
	}
	return v.lacks(b)
}

// booked reports whether the ledger told the id of its store.
func (v *survey) booked() bool { return v.id != [16]byte{} }

// lacks returns what is wrong with a store that differs from its ledger.
func (v *survey) lacks(b balance) error {
	var what []string
	if n := len(b.missing); n > 0 {
		what = append(what, fmt.Sprintf("%s answered 250 and %s not there: %s", were(n), isAre(n), some(b.missing)))
	}
	if n := len(b.stale); n > 0 {
		what = append(what, fmt.Sprintf("%s there in a form older than the last: %s", were(n), some(b.stale)))
	}
	if len(what) == 0 {
		return nil
	}
	return damaged(v.dir, "the queue's store is damaged: "+strings.Join(append(what, v.holesIn()...), "; "))
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func were(n int) string {
	if n == 1 {
		return "1 message was"
	}
	return fmt.Sprintf("%d messages were", n)
}

// some returns the first of a list, and how many more there are.
func some(list []string) string {
	const most = 10
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// plain returns an error of the library in one line, without what it says twice.
func plain(err error) string {
	var list []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		line = strings.TrimSpace(line)
		if line != "" && line != "<corruption detail carrier>" && !slices.Contains(list, line) {
			list = append(list, line)
		}
	}
	return strings.Join(list, "; ")
}

// explain adds to an error of the library what it does not say.
func (v *survey) explain(err error) error {
	return damaged(v.dir, "the queue's store cannot be read: "+strings.Join(append([]string{plain(err)}, v.holesIn()...), "; "))
}

// formless judges a store that has no format: its making was cut off, or
// somebody else's, or what says it was lost.
func (v *survey) formless(db *lib.DB) error {
	found := false
	if err := scanAll(db, func() { found = true }); err != nil {
		return v.explain(err)
	}
	switch {
	case v.made || v.ledger || len(v.tables)+len(v.blobs) > 0 && !found:
		return v.explain(errors.New("what says that it is a queue is missing"))
	case found:
		return problem.At(problem.Pos{File: v.dir}, "there is a store, but it is not a queue", "name an empty folder, or restore a backup")
	case v.said():
		return v.explain(errors.New("it has logs that are not read"))
	}
	v.fresh = true
	return nil
}

// unbooked judges a store without a ledger. One of an older format never had
// one; it is read to its end, and gets one.
func (v *survey) unbooked(o Options, db *lib.DB, format uint64) error {
	if format >= bookedFormat {
		o.Report(problem.At(problem.Pos{File: v.dir}, "the ledger of the queue is missing, and is made anew from what is there; what is missing with it, nobody knows",
			"look at the disk; compare the queue with the relay's log"))
	}
	if holes := v.holesIn(); len(holes) > 0 {
		return damaged(v.dir, "the queue's store is damaged: "+strings.Join(holes, "; "))
	}
	sum, err := verify(context.Background(), db)
	if err != nil {
		return v.explain(err)
	}
	for _, fault := range sum.Faults {
		o.Report(fault)
	}
	return nil
}

// bookedFormat is the first format whose stores have a ledger.
const bookedFormat = 3

// newStoreID returns the id of a store that has none.
func newStoreID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// setMade says beside the store's folder that there is a store.
func setMade(f vfs.FS, dir string) error {
	if made, err := wasMade(f, dir); err != nil || made {
		return err
	}
	return writeFile(f, madeName(dir), []byte("There is, or was, a queue in the folder beside this file. While this file is here, no empty one is made in its place.\n"))
}
