package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"postern/internal/problem"
)

// Judge says what in a state folder, or above it, others than us (a user's id)
// and root could change: they would write what is read there, users, keys,
// messages. It looks at all that lies in the folder and changes nothing. One
// that is not there has nothing against it but what is above.
func Judge(dir string, us int) error { return judgeAll(dir, us, true) }

// Safe refuses a state folder that others than who runs this process, and root,
// could change. Unlike Open it does not look into the folder's folders, and is
// quick enough for every command.
func Safe(dir string) error { return judgeAll(dir, os.Geteuid(), false) }

// Placed refuses a folder in whose place others than its owner, and root, could
// put another one.
func Placed(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return judgeAbove(dir, owner(info))
}

// PlacedFor is Placed of a folder that is still to be made, by the user of id
// uid.
func PlacedFor(dir string, uid int) error { return judgeAbove(dir, uid) }

// mostFaults are told of one folder; the cure is the same for all.
const mostFaults = 5

func judgeAll(dir string, us int, deep bool) error {
	found := []error{judgeAbove(dir, us)}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return found[0]
	}
	if err == nil {
		err = judge(dir, info, us) // before it is opened: it may not be for us to read
	}
	if err != nil {
		return errors.Join(append(found, err)...)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return errors.Join(append(found, err)...)
	}
	defer func() { _ = root.Close() }() // it was only read
	found = append(found, fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		info, statErr := root.Lstat(name)
		if errors.Is(statErr, fs.ErrNotExist) {
			return nil // a running relay has removed it meanwhile
		}
		if err = errors.Join(err, statErr); statErr == nil {
			err = errors.Join(err, judge(filepath.Join(dir, name), info, us))
		}
		if err != nil {
			found = append(found, err)
		}
		switch {
		case len(found) > mostFaults:
			return fs.SkipAll
		case d != nil && d.IsDir() && name != "." && (err != nil || !deep):
			return fs.SkipDir
		}
		return nil
	}))
	return errors.Join(found...)
}

// judge says what is wrong with one file or folder of a state folder.
func judge(path string, info os.FileInfo, us int) error {
	if !ours(info, us) {
		return problem.At(problem.Pos{File: path}, fmt.Sprintf("it belongs to the user of id %d, who could write what the relay reads", owner(info)),
			fmt.Sprintf("look at it; if it is as it should be, give it over: chown -R %d: %s", us, path))
	}
	if info.Mode()&os.ModeSymlink == 0 && info.Mode().Perm()&0o022 != 0 {
		return problem.At(problem.Pos{File: path}, fmt.Sprintf("others may write it (mode %04o), and so what the relay reads", info.Mode().Perm()),
			"look at what lies there, then: chmod -R go-w "+path)
	}
	return nil
}

// judgeAbove says by which folder above somebody could put another one in the
// place of dir: one that others may write, unless it is sticky as /tmp is.
func judgeAbove(dir string, us int) error {
	above, err := foldersAbove(dir)
	if err != nil {
		return err
	}
	var found []error
	for _, path := range above {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			found = append(found, err)
		case !ours(info, us):
			found = append(found, problem.At(problem.Pos{File: path}, fmt.Sprintf("it belongs to the user of id %d, who could put another folder in the place of %s", owner(info), dir), "keep the state in a folder below those of root or of the relay's user"))
		case info.Mode()&os.ModeSticky != 0 || info.Mode().Perm()&0o022 == 0 || info.Mode().Perm()&0o002 == 0 && private(info):
		default:
			found = append(found, problem.At(problem.Pos{File: path}, fmt.Sprintf("others may write it (mode %04o), and could put another folder in the place of %s", info.Mode().Perm(), dir), "chmod go-w "+path))
		}
	}
	return errors.Join(found...)
}

// foldersAbove returns the folders in which a path's way is looked up, through
// links as well, each once.
func foldersAbove(path string) (above []string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	rest, at := strings.Split(path[1:], "/"), "/"
	for links := 0; len(rest) > 0; {
		if !slices.Contains(above, at) {
			above = append(above, at)
		}
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(next)
		if err != nil { // no link, or not there
			at = next
			continue
		}
		if links++; links > 40 {
			return nil, fmt.Errorf("%s: %w", path, syscall.ELOOP)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = slices.DeleteFunc(append(strings.Split(target, "/"), rest...), func(part string) bool { return part == "" })
	}
	return above, nil
}

// ours reports what belongs to a user or to root, who can do anything anyhow.
func ours(info os.FileInfo, us int) bool { id := owner(info); return id == us || id == 0 }

func owner(info os.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// private reports whether the group of a folder is its owner's alone: many
// systems give each person such a group, and make their folders writable to it.
func private(info os.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Uid == 0 {
		return false
	}
	who, err := user.LookupId(strconv.Itoa(int(s.Uid)))
	if err != nil || who.Gid != strconv.Itoa(int(s.Gid)) {
		return false
	}
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		// name:password:id:members
		if part := strings.Split(strings.TrimSpace(line), ":"); len(part) == 4 && part[2] == who.Gid {
			return part[0] == who.Username && (part[3] == "" || part[3] == who.Username)
		}
	}
	return false
}
