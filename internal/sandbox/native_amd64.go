package sandbox

import "golang.org/x/sys/unix"

// native are the calls that only this architecture has, mostly older forms of
// others.
var native = []uint32{
	unix.SYS_EPOLL_WAIT, unix.SYS_ARCH_PRCTL, unix.SYS_NEWFSTATAT, unix.SYS_TIME, unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS,
	unix.SYS_READLINK, unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_RENAME, unix.SYS_LINK, unix.SYS_DUP2, unix.SYS_PIPE, unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_RENAMEAT, unix.SYS_GETRLIMIT,
}
