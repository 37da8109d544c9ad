package identity

import (
	"io/fs"
	"syscall"
	"time"
)

// The files in the state folder.
const (
	usersFile    = "users.json"
	lockFile     = "users.lock" // locked while users.json is changed; it never goes away
	lastUseFile  = "lastuse.json"
	familiarFile = "familiar.json"
	saltFile     = "login.key" // makes the salts of users that do not exist
)

// A stamp tells one state of a file from another. Each write makes a new
// inode, so two states within one tick of the clock differ too.
type stamp struct {
	size     int64
	modified time.Time
	inode    uint64
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}
