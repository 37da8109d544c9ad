package sandbox

import "golang.org/x/sys/unix"

// native are the calls that have another name here.
var native = []uint32{unix.SYS_FSTATAT, unix.SYS_RENAMEAT, unix.SYS_GETRLIMIT}
