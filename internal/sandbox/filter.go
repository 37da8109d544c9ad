package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// allowed are the system calls of a relay that was set up, and of the Go
// runtime and the C library below it. All others are refused: to start a
// program, to look into another process, to change what the machine is or whom
// a file belongs to, and doors into the kernel that often were broken. What is
// only one architecture's stands in a file of its name. The calls of every
// message come first.
var allowed = slices.Concat([]uint32{
	unix.SYS_FUTEX, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP, unix.SYS_EPOLL_CTL, unix.SYS_ACCEPT4, unix.SYS_CLOSE,
	unix.SYS_RECVFROM, unix.SYS_MADVISE, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_FDATASYNC, unix.SYS_TGKILL, unix.SYS_GETPID, unix.SYS_RT_SIGRETURN,

	// memory, threads, time and signals
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_BRK, unix.SYS_MINCORE, unix.SYS_MEMBARRIER, unix.SYS_RSEQ,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_GETTID, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_PRCTL,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_RESTART_SYSCALL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE,
	unix.SYS_SETITIMER, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETRANDOM,

	// who we are, and how much of the machine is ours
	unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETGROUPS, unix.SYS_UNAME, unix.SYS_SYSINFO,
	unix.SYS_GETRUSAGE, unix.SYS_PRLIMIT64,

	// files
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_CLOSE_RANGE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_LSEEK,
	unix.SYS_FSTAT, unix.SYS_STATX, unix.SYS_FSTATFS, unix.SYS_STATFS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT, unix.SYS_GETCWD,
	unix.SYS_GETDENTS64, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FADVISE64, unix.SYS_FSYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FLOCK,
	unix.SYS_FCNTL, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2,
	unix.SYS_LINKAT, unix.SYS_COPY_FILE_RANGE, unix.SYS_SENDFILE, unix.SYS_SPLICE,

	// the network
	unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_SHUTDOWN,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2, unix.SYS_PPOLL, unix.SYS_PSELECT6,
}, native)

// A condition allows a call by its arguments. The kernel takes the lower half
// of them, an int, so that half is what is looked at.
type condition struct {
	call uint32
	arg  uint32 // counted from 0
	is   func(value uint32) []bpf.Instruction
}

// conditions are the calls that are allowed by halves.
var conditions = []condition{
	// Sending with TCP Fast Open connects, and Landlock's ports are not asked.
	{unix.SYS_SENDTO, 3, without(unix.MSG_FASTOPEN)},
	{unix.SYS_SENDMSG, 2, without(unix.MSG_FASTOPEN)},
	{unix.SYS_SENDMMSG, 3, without(unix.MSG_FASTOPEN)},
	// A thread of ours; no process, and no world of its own.
	{unix.SYS_CLONE, 0, thread},
	// What a terminal is asked, and a socket how much waits in it.
	{unix.SYS_IOCTL, 1, among(unix.TCGETS, unix.TIOCGWINSZ, unix.TIOCINQ, unix.TIOCOUTQ)},
}

// What each returns ends in a step that is passed over when the call is
// allowed, and refuses it when not.
func without(bits uint32) func(uint32) []bpf.Instruction {
	return func(arg uint32) []bpf.Instruction {
		return []bpf.Instruction{load(arg), bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: bits, SkipTrue: 1}, bpf.RetConstant{Val: deny}}
	}
}

// worlds are the namespaces that a new thread could begin.
const worlds = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

func thread(arg uint32) []bpf.Instruction {
	return append(without(worlds)(arg), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD, SkipTrue: 1}, bpf.RetConstant{Val: deny})
}

func among(values ...uint32) func(uint32) []bpf.Instruction {
	return func(arg uint32) []bpf.Instruction {
		p := []bpf.Instruction{load(arg)}
		for i, v := range values {
			p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
		}
		return append(p, bpf.RetConstant{Val: deny})
	}
}

func load(arg uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offArg + 8*arg, Size: 4} }

// sockets are the kinds that may be made: of TCP, UDP, the machine's own, and
// the one by which the kernel tells of its network. Raw and packet sockets are
// not among them, nor Multipath TCP and SCTP, which Landlock's rules for TCP do
// not see.
var (
	families  = among(unix.AF_INET, unix.AF_INET6, unix.AF_UNIX)
	kinds     = among(unix.SOCK_STREAM, unix.SOCK_DGRAM)
	protocols = among(0, unix.IPPROTO_TCP, unix.IPPROTO_UDP)
)

// kindMask takes the flags of socket(2) off its kind.
const kindMask = 0xf

// architectures have one numbering of system calls each; under another one,
// as that of 32-bit programs, a number means something else.
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// The layout of struct seccomp_data (seccomp(2)), little endian.
const (
	offNumber = 0
	offArch   = 4
	offArg    = 16
	numberX32 = 0x40000000 // a second numbering within that of x86-64
	deny      = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// program is the filter for one architecture.
func program(arch uint32) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: numberX32, SkipTrue: 1},
		bpf.RetConstant{Val: deny},
	}
	for _, number := range allowed {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: number, SkipTrue: 1}, allow)
	}
	for _, c := range conditions {
		p = append(p, when(c.call, append(c.is(c.arg), allow))...)
	}
	p = append(p, when(unix.SYS_SOCKET, socket())...)
	// The C library makes a thread by the older call where this one is unknown,
	// and its flags cannot be seen here.
	p = append(p, when(unix.SYS_CLONE3, []bpf.Instruction{bpf.RetConstant{Val: unknown}})...)
	return append(p, bpf.RetConstant{Val: deny})
}

var allow = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}

// when does steps, which return, for one call.
func when(call uint32, steps []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: uint8(len(steps))}}, steps...)
}

// socket judges socket(2).
func socket() []bpf.Instruction {
	kind := []bpf.Instruction{load(1), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: kindMask}}
	own := kinds(1)[1:]
	netlink := []bpf.Instruction{load(2), bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_ROUTE, SkipTrue: 1}, bpf.RetConstant{Val: deny}, allow}
	p := append([]bpf.Instruction{load(0)}, when(unix.AF_NETLINK, netlink)...)
	p = append(p, families(0)[1:]...)
	p = append(append(p, kind...), own...)
	return append(append(p, protocols(2)...), allow)
}

// filter puts the filter over every thread. It reports false where this
// kernel, or our knowledge of this architecture, does not go so far.
func filter() (bool, error) {
	arch, known := architectures[runtime.GOARCH]
	if !known {
		return false, nil
	}
	raw, err := bpf.Assemble(program(arch))
	if err != nil {
		return false, err
	}
	steps := make([]unix.SockFilter, 0, len(raw))
	for _, r := range raw {
		steps = append(steps, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	whole := unix.SockFprog{Len: uint16(len(steps)), Filter: &steps[0]}
	runtime.LockOSThread() // the bit is the thread's, and so is the right to filter all of them
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("no_new_privs: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&whole)))
	runtime.KeepAlive(steps)
	switch {
	case errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EINVAL): // built without, or older than TSYNC
		return false, nil
	case errno != 0:
		return false, errno
	}
	return true, nil
}
