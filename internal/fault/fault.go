// Package fault is a disk that fails on purpose, for tests: the power goes and
// takes what was not synced, the disk is full from the n-th write on, the n-th
// operation fails.
//
// The invariant: an operation that was told to fail did nothing, and what was
// synced before the power went is there.
package fault

import (
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A Disk is a file system in memory that fails as it is told. It is safe for
// concurrent use.
type Disk struct {
	vfs.FS // what a store is given
	mem    *vfs.MemFS
	mu     sync.Mutex
	plan   Plan
	seen   int // operations of the plan's kind since it was set
	failed int
}

// A Plan says what is to fail.
type Plan struct {
	What  Kind
	After int   // this many operations of the kind succeed first
	Times int   // then so many fail; 0: all, until the next plan
	Err   error // how; nil: nothing fails
}

// A Kind of operation.
type Kind uint8

// The kinds.
const (
	Writes  Kind = iota // of octets, and making files: what needs room
	Syncs               // of files and folders
	Changes             // both, and renaming and linking
)

// The ways in which disks fail.
var (
	ErrNoSpace error = syscall.ENOSPC
	ErrIO      error = syscall.EIO
)

// NewDisk returns an empty disk that works.
func NewDisk() *Disk { return disk(vfs.NewCrashableMem()) }

func disk(mem *vfs.MemFS) *Disk {
	d := &Disk{mem: mem}
	d.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(d.judge))
	return d
}

// Fail sets the plan, and forgets the one before.
func (d *Disk) Fail(p Plan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plan, d.seen, d.failed = p, 0, 0
}

// Seen returns how many operations of the plan's kind there were since it was
// set, and how many of these failed.
func (d *Disk) Seen() (operations, failed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen, d.failed
}

// PowerLoss returns the disk as it may be found after the power went at this
// moment: what was synced is there, of the rest each block of 4 KiB and each
// name with the given probability in percent. What writes on goes nowhere.
func (d *Disk) PowerLoss(percent int, r *rand.Rand) *Disk {
	return disk(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r}))
}

func (d *Disk) judge(op errorfs.Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.plan.What.has(op.Kind) {
		return nil
	}
	d.seen++
	over := d.seen - d.plan.After
	if d.plan.Err == nil || over <= 0 || d.plan.Times > 0 && over > d.plan.Times {
		return nil
	}
	d.failed++
	return d.plan.Err
}

func (k Kind) has(op errorfs.OpKind) bool {
	switch op { //nolint:exhaustive // all others change nothing on the disk
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpFilePreallocate:
		return k == Writes || k == Changes
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return k == Syncs || k == Changes
	case errorfs.OpLink, errorfs.OpRename, errorfs.OpReuseForWrite:
		return k == Changes
	}
	return false
}
