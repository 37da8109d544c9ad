package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// A Profile is what a process reaches once it is shut in. Name folders where
// files are replaced by renaming: a rule is bound to the file that is there
// now, not to its name. What is missing when the sandbox is entered stays out.
type Profile struct {
	Read    []string // folders and files
	Write   []string // folders and files that are read and written
	Sockets []string // folders of unix sockets that are spoken to
	Bind    []uint16 // TCP
	Connect []uint16 // TCP
}

// Lacks returns what of another profile is outside of this one, in words.
func (p Profile) Lacks(other Profile) []string {
	var out []string
	paths := func(verb string, have, want []string) {
		for _, w := range want {
			if !slices.ContainsFunc(have, func(h string) bool { return below(settled(w), settled(h)) }) {
				out = append(out, verb+" "+w)
			}
		}
	}
	ports := func(verb string, have, want []uint16) {
		for _, w := range want {
			if !slices.Contains(have, w) {
				out = append(out, fmt.Sprintf("%s TCP port %d", verb, w))
			}
		}
	}
	paths("read", slices.Concat(p.Read, p.Write), other.Read)
	paths("write", p.Write, other.Write)
	paths("speak to the sockets in", p.Sockets, other.Sockets)
	ports("listen on", p.Bind, other.Bind)
	ports("connect to", p.Connect, other.Connect)
	slices.Sort(out)
	return slices.Compact(out)
}

// settled follows symbolic links as far as there is something.
func settled(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return filepath.Clean(path)
}

func below(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// The walls that stand after Enter.
type Walls struct {
	Landlock int      // its ABI version; 0: this kernel has none
	Seccomp  bool     // no program is started, no other process looked into
	Missing  []string // of the profile, what is not there
}

// The ABI versions of Landlock (landlock(7)) from which on it limits more.
const (
	landlockLeast = 2 // the first one forbids every move between folders
	landlockPorts = 4
	landlockMost  = 9 // 10 limits UDP, which no profile describes yet
)

// String says in a row what holds.
func (w Walls) String() string {
	var words []string
	switch {
	case w.Landlock >= landlockPorts:
		words = append(words, "landlock v"+strconv.Itoa(w.Landlock)+": files, TCP ports")
	case w.Landlock > 0:
		words = append(words, "landlock v"+strconv.Itoa(w.Landlock)+": files (ports from v4 on)")
	default:
		words = append(words, "no landlock in this kernel")
	}
	if w.Seccomp {
		words = append(words, "seccomp")
	} else {
		words = append(words, "no seccomp here")
	}
	return strings.Join(words, "; ")
}

// Enter shuts the whole process in, all threads of it. A kernel that lacks a
// part of it is no error; Walls says what holds.
func Enter(p Profile) (Walls, error) {
	w := Walls{Landlock: Landlock()}
	rules, missing := p.rules()
	w.Missing = missing
	// Best effort drops what this kernel cannot limit yet, nothing else.
	if err := landlock.V9.BestEffort().Restrict(rules...); err != nil {
		return w, fmt.Errorf("landlock: %w; --no-sandbox starts without", err)
	}
	var err error
	if w.Seccomp, err = filter(); err != nil {
		return w, fmt.Errorf("seccomp: %w; --no-sandbox starts without", err)
	}
	return w, nil
}

// What may be done below a path. Nothing may be executed anywhere.
const (
	mayRead      = ll.AccessFSReadFile | ll.AccessFSReadDir
	mayWriteFile = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	mayWrite     = mayRead | mayWriteFile | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir | ll.AccessFSMakeReg |
		ll.AccessFSMakeDir | ll.AccessFSMakeSock | ll.AccessFSRefer // a Maildir moves from tmp to new
)

// Landlock returns the version of Landlock that this kernel has; 0 where it has
// none that is of use.
func Landlock() int {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < landlockLeast {
		return 0
	}
	return min(abi, landlockMost)
}

// rules are the profile's as Landlock has them, and what is not there.
func (p Profile) rules() (rules []landlock.Rule, missing []string) {
	add := func(paths []string, dir, file landlock.AccessFSSet) {
		for _, path := range sorted(paths) {
			info, err := os.Stat(path)
			switch {
			case errors.Is(err, os.ErrNotExist):
				missing = append(missing, path)
			case err == nil && !info.IsDir():
				rules = append(rules, landlock.PathAccess(file, path))
			default: // one that cannot be looked at fails where it is told why
				rules = append(rules, landlock.PathAccess(dir, path))
			}
		}
	}
	add(p.Read, mayRead, ll.AccessFSReadFile)
	add(p.Write, mayWrite, mayWriteFile)
	add(p.Sockets, ll.AccessFSResolveUnix, ll.AccessFSResolveUnix)
	for _, port := range sorted(p.Bind) {
		rules = append(rules, landlock.BindTCP(port))
	}
	for _, port := range sorted(p.Connect) {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	return rules, missing
}

func sorted[T cmp.Ordered](list []T) []T { return slices.Compact(slices.Sorted(slices.Values(list))) }
