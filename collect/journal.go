package collect

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern/verdict"
)

// A journal is the file of arrivals: one JSON object a line, appended and
// synced before the peer is told that its message was taken, so that what
// arrives today is known to a check that asks after a restart.
type journal struct {
	path string
	keep Keep

	mu    sync.Mutex
	file  *os.File
	size  int64
	limit int64 // beyond it, the file is written anew without what is too old
}

// maxLine is more than an arrival with a whole header can take in JSON, where
// an octet may become six.
const maxLine = 6*maxHeader + 16<<10

// openJournal opens the file in dir and returns the arrivals that it holds and
// keep still wants. Lines that are not whole, as a power failure leaves them,
// are counted and passed over.
func openJournal(dir string, keep Keep, now time.Time) (j *journal, list []verdict.Arrival, broken int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, 0, err
	}
	j = &journal{path: filepath.Join(dir, "arrivals.jsonl"), keep: keep, limit: 4 * int64(keep.Bytes)}
	file, err := os.Open(j.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, 0, err
	default:
		defer file.Close()
		if list, broken, err = readJournal(file, keep, now); err != nil {
			return nil, nil, 0, fmt.Errorf("%s: %w", j.path, err)
		}
	}
	if err := j.rewrite(list); err != nil {
		return nil, nil, 0, err
	}
	return j, list, broken, nil
}

func readJournal(r io.Reader, keep Keep, now time.Time) (list []verdict.Arrival, broken int, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		var a verdict.Arrival
		switch {
		case len(line) == 0:
		case long || json.Unmarshal(line, &a) != nil || len(a.Tokens) == 0:
			broken++
		case now.Sub(a.At) <= keep.Age:
			if list = append(list, a); len(list) > 2*keep.Arrivals {
				list = append(list[:0], list[len(list)-keep.Arrivals:]...)
			}
		}
		if errors.Is(err, io.EOF) {
			return list[max(0, len(list)-keep.Arrivals):], broken, nil
		}
		if err != nil {
			return nil, broken, err
		}
	}
}

// append adds one arrival and returns when it is on the disk.
func (j *journal) append(a verdict.Arrival, now time.Time) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size > j.limit {
		if err := j.compact(now); err != nil {
			return err
		}
	}
	n, err := j.file.Write(append(line, '\n'))
	j.size += int64(n)
	if err != nil {
		return err
	}
	return j.file.Sync()
}

func (j *journal) compact(now time.Time) error {
	if _, err := j.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	list, _, err := readJournal(j.file, j.keep, now)
	if err != nil {
		return err
	}
	return j.rewrite(list)
}

// rewrite replaces the file by one that holds list, whole or not at all.
func (j *journal) rewrite(list []verdict.Arrival) (err error) {
	file, err := os.CreateTemp(filepath.Dir(j.path), ".arrivals-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if j.file != file {
			file.Close()
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	out := bufio.NewWriter(file)
	enc := json.NewEncoder(out)
	for _, a := range list {
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), j.path); err != nil {
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size = file, size
	// Should a power failure undo the new name, what is appended from now on
	// would be lost with it.
	return syncFolder(filepath.Dir(j.path))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}
