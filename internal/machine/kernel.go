package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Space is the room of a file system, in bytes.
type Space struct {
	Free  uint64 // for this process; what is kept back for root is not in it
	Total uint64
}

// Disk returns the room where path lies, or would lie: of a path that is not
// there yet, the closest folder above it counts.
func Disk(path string) (Space, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Space{}, err
	}
	for {
		var s unix.Statfs_t
		err := unix.Statfs(path, &s)
		if err == nil {
			size := uint64(max(s.Bsize, 0))
			return Space{Free: s.Bavail * size, Total: s.Blocks * size}, nil
		}
		up := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || up == path {
			return Space{}, fmt.Errorf("free space of %s: %w", path, err)
		}
		path = up
	}
}

// Running returns how long the machine has run since its start, asleep or awake:
// a clock that nobody can set.
func Running() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(loaded) // a kernel that has no such clock
	}
	return time.Duration(t.Nano())
}

var loaded = time.Now()

// Clock is what the kernel believes of its own clock (adjtimex(2)).
type Clock struct {
	Synchronised bool          // a time service disciplines it
	Error        time.Duration // its estimate of how far it may be off; of no worth when it is not disciplined
}

// ReadClock asks the kernel and changes nothing.
func ReadClock() (Clock, error) {
	var t unix.Timex // no mode is set: a question
	if _, err := unix.Adjtimex(&t); err != nil {
		return Clock{}, fmt.Errorf("state of the clock: %w", err)
	}
	return Clock{
		Synchronised: t.Status&unix.STA_UNSYNC == 0,
		Error:        time.Duration(t.Esterror) * time.Microsecond,
	}, nil
}
