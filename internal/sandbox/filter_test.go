package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is struct seccomp_data as the machine of package bpf reads it: each
// half of a word where a little-endian kernel has it, its octets in network
// order.
func call(number, arch uint32, args ...uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[offNumber:], number)
	binary.BigEndian.PutUint32(b[offArch:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[offArg+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[offArg+8*i+4:], uint32(a>>32))
	}
	return b
}

func TestFilter(t *testing.T) {
	const yes = unix.SECCOMP_RET_ALLOW
	const arch, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	const high = 1 << 32 // an int argument's upper half, which the kernel ignores
	vm, err := bpf.NewVM(program(arch))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		data []byte
		want uint32
	}{
		{"read", call(unix.SYS_READ, arch), yes},
		{"the last of the list", call(allowed[len(allowed)-1], arch), yes},
		{"a thread", call(unix.SYS_CLONE, arch, unix.CLONE_VM|unix.CLONE_THREAD), yes},
		{"a process", call(unix.SYS_CLONE, arch, uint64(unix.SIGCHLD)), deny},
		{"a thread in another network", call(unix.SYS_CLONE, arch, unix.CLONE_THREAD|unix.CLONE_NEWNET), deny},
		{"a thread whose flags are not seen", call(unix.SYS_CLONE3, arch), unknown},
		{"a program", call(unix.SYS_EXECVE, arch), deny},
		{"a process of the old way", call(57, arch), deny},
		{"read, as x32", call(unix.SYS_READ|numberX32, arch), deny},
		{"a program, as 32 bit", call(11, i386), unix.SECCOMP_RET_KILL_PROCESS},

		{"whom a file belongs to", call(unix.SYS_FCHOWNAT, arch), deny},
		{"who may read it", call(unix.SYS_FCHMODAT, arch), deny},
		{"who may read one that is open", call(unix.SYS_FCHMOD, arch), deny},
		{"its attributes", call(unix.SYS_SETXATTR, arch), deny},
		{"its times", call(unix.SYS_UTIMENSAT, arch), deny},
		{"a device", call(unix.SYS_MKNODAT, arch), deny},
		{"memory of other processes", call(unix.SYS_SHMGET, arch), deny},
		{"a signal to another process", call(unix.SYS_KILL, arch), deny},
		{"the name of the host", call(unix.SYS_SETHOSTNAME, arch), deny},
		{"the kernel's log", call(unix.SYS_SYSLOG, arch), deny},
		{"a file without a name", call(unix.SYS_MEMFD_CREATE, arch), deny},
		{"a tree of files", call(unix.SYS_OPEN_TREE, arch), deny},
		{"a tree of files with attributes", call(467, arch), deny},
		{"a call that nobody knows yet", call(999, arch), deny},
		{"typing into a terminal", call(unix.SYS_IOCTL, arch, 0, unix.TIOCSTI), deny},
		{"asking whether it is one", call(unix.SYS_IOCTL, arch, 1, unix.TCGETS), yes},

		{"TCP", call(unix.SYS_SOCKET, arch, unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP), yes},
		{"UDP", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_DGRAM, 0), yes},
		{"a unix socket", call(unix.SYS_SOCKET, arch, unix.AF_UNIX, unix.SOCK_STREAM, 0), yes},
		{"the kernel's news of the network", call(unix.SYS_SOCKET, arch, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE), yes},
		{"the kernel's audit", call(unix.SYS_SOCKET, arch, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT), deny},
		{"raw IP", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP), deny},
		{"SCTP", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP), deny},
		{"MPTCP", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP), deny},
		{"MPTCP, with more in the upper half", call(unix.SYS_SOCKET, arch, unix.AF_INET, unix.SOCK_STREAM, high|unix.IPPROTO_MPTCP), deny},
		{"TCP, with more in the upper half", call(unix.SYS_SOCKET, arch, high|unix.AF_INET, unix.SOCK_STREAM, high|unix.IPPROTO_TCP), yes},
		{"packets", call(unix.SYS_SOCKET, arch, unix.AF_PACKET, unix.SOCK_RAW, 0), deny},
		{"radio", call(unix.SYS_SOCKET, arch, unix.AF_AX25, unix.SOCK_DGRAM, 0), deny},
		{"a family below none", call(unix.SYS_SOCKET, arch, 1<<64-1, unix.SOCK_STREAM, 0), deny},

		{"sending", call(unix.SYS_SENDTO, arch, 3, 0, 0, unix.MSG_NOSIGNAL), yes},
		{"connecting by sending", call(unix.SYS_SENDTO, arch, 3, 0, 0, unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL), deny},
		{"the same, with more in the upper half", call(unix.SYS_SENDTO, arch, 3, 0, 0, high|unix.MSG_FASTOPEN), deny},
		{"sending a message", call(unix.SYS_SENDMSG, arch, 3, 0, unix.MSG_NOSIGNAL), yes},
		{"connecting by a message", call(unix.SYS_SENDMSG, arch, 3, 0, unix.MSG_FASTOPEN), deny},
		{"sending messages", call(unix.SYS_SENDMMSG, arch, 3, 0, 2, 0), yes},
		{"connecting by messages", call(unix.SYS_SENDMMSG, arch, 3, 0, 2, unix.MSG_FASTOPEN), deny},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := vm.Run(c.data)
			if err != nil || uint32(got) != c.want {
				t.Errorf("got %#x, %v; want %#x", got, err, c.want)
			}
		})
	}
}
