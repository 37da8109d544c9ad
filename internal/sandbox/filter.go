package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// denied are the system calls that a relay has no use for, and who breaks
// into one has: to start a program, to look into another process, to change
// what the machine is, and doors into the kernel that often were broken.
var denied = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_PERSONALITY,
}

// The limits of socket(2). From AF_NETLINK on come packet sockets, virtual
// machines and the kernel's ciphers; from IPPROTO_MPTCP on only Multipath TCP,
// which Landlock's rules for TCP do not see.
const (
	lastFamily    = unix.AF_NETLINK
	firstProtocol = unix.IPPROTO_MPTCP
)

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
	for _, number := range denied {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: number, SkipTrue: 1}, bpf.RetConstant{Val: deny})
	}
	// The kernel takes the lower half of these arguments, an int, so that half
	// is what must be looked at.
	return append(p,
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_SOCKET, SkipTrue: 6},
		bpf.LoadAbsolute{Off: offArg, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: lastFamily, SkipTrue: 1},
		bpf.RetConstant{Val: deny},
		bpf.LoadAbsolute{Off: offArg + 2*8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: firstProtocol, SkipTrue: 1},
		bpf.RetConstant{Val: deny},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	)
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
